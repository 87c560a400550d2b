"""A server really has the metrics and labels that terraform/cluster/monitoring.tf uses, with the same meaning."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from tests.support.one_worker import ONE_WORKER
from tests.support.terraform import CHECKOUT, Resource, of
from tests.support.waiting import Eventually

pytestmark = pytest.mark.timeout(600)  # the first test that needs it waits for all of `terraform test`

# The labels that Google's collector adds: https://cloud.google.com/stackdriver/docs/managed-prometheus/setup-managed
COLLECTED = {"cluster", "namespace", "job", "pod"}
FUNCTIONS = {"absent", "changes", "count", "histogram_quantile", "rate", "sum"}
WORDS = {"by", "or"}

Samples = dict[str, list[dict[str, str]]]  # by name, the labels of each


@pytest.fixture(scope="module")
def queries(planned: list[Resource]) -> set[str]:
    """All queries, in PromQL."""
    found = {
        condition["condition_prometheus_query_language"][0]["query"]
        for policy in of(planned, "google_monitoring_alert_policy")
        for condition in policy["conditions"]
    }
    for dashboard in of(planned, "google_monitoring_dashboard"):
        for widget in json.loads(dashboard["dashboard_json"])["gridLayout"]["widgets"]:
            found |= {data["timeSeriesQuery"]["prometheusQuery"] for data in widget["xyChart"]["dataSets"]}
    assert len(found) > 10
    return found


def selectors(query: str) -> list[tuple[str, str]]:
    """Metrics with their selectors: without one, a metric would be every cluster's."""
    assert query.count("(") == query.count(")")
    found = re.findall(r"(\w+)\{([^}]*)\}", query)
    rest = re.sub(r'\w+\{[^}]*\}|\[\d+m\]|"[^"]*"|\bby \([\w, ]+\)', " ", query)
    assert set(re.findall(r"[a-zA-Z_]\w*", rest)) <= FUNCTIONS | WORDS, rest
    return found


def scraped(server: TorchServe) -> Samples:
    page = httpx.get(f"{server.metrics_url}/metrics", timeout=60, trust_env=False).text
    found: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return found


@pytest.fixture(scope="module")
def told(server: TorchServe, door_url: str, photographs: list[Path], eventually: Eventually) -> Samples:
    """The metrics of a server that has answered a call, once Envoy has updated its histograms."""
    httpx.post(
        server.predict_url,
        content=photographs[0].read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        timeout=60,
        trust_env=False,
    ).raise_for_status()
    eventually(lambda: scraped(server).get("door_batch_size_bucket"))
    return scraped(server)


def test_a_server_has_every_metric(queries: set[str], told: Samples) -> None:
    for query in queries:
        assert selectors(query)
        for metric, labels in selectors(query):
            assert metric in told, f"no server tells {metric}: {query}"
            names = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", labels)) - COLLECTED
            assert any(names <= there.keys() for there in told[metric]), f"{metric} has no labels {names}"
        for grouped in re.findall(r"by \(([\w, ]+)\)", query):
            names = set(grouped.split(", ")) - COLLECTED
            assert any(names <= there.keys() for metric, _ in selectors(query) for there in told[metric]), query


def test_a_server_has_every_label_value(queries: set[str], told: Samples) -> None:
    """Except for values that only failures have: a status 5xx, other protocols."""
    for metric, labels in {pair for query in queries for pair in selectors(query)}:
        for name, relation, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', labels):
            if name in COLLECTED or value == "5..":
                continue
            words = value.split("|") if relation == "=~" else [value]
            assert set(words) & {there.get(name) for there in told[metric]}, f"{metric} never says {name}={value}"


def test_a_metric_that_no_server_has_would_be_found(told: Samples) -> None:
    with pytest.raises(AssertionError, match="no server tells door_request_total"):
        test_a_server_has_every_metric({'sum(rate(door_request_total{a="b"}[5m]))'}, told)
    with pytest.raises(AssertionError, match="has no labels"):
        test_a_server_has_every_metric({'sum(rate(door_requests_total{code="5.."}[5m]))'}, told)
    with pytest.raises(AssertionError):
        selectors("sum(rate(door_requests_total[5m]))")


def test_every_query_is_limited_to_its_own_cluster_and_namespace(queries: set[str]) -> None:
    for query in queries:
        for _, labels in selectors(query):
            assert 'cluster="alexnet", namespace="alexnet"' in labels, query


def test_the_collectors_job_label_distinguishes_services() -> None:
    """`job` is the PodMonitoring's name, which is the service's."""
    monitor = yaml.safe_load(
        (CHECKOUT / "kserve" / "components" / "monitoring-google" / "pod-monitoring.yaml").read_text()
    )
    service = yaml.safe_load((CHECKOUT / "kserve" / "base" / "inference-service.yaml").read_text())
    assert monitor["metadata"]["name"] == service["metadata"]["name"]


def test_the_page_has_every_alert_with_its_bound(planned: list[Resource]) -> None:
    page = (CHECKOUT / "docs" / "watching.md").read_text()
    rows = dict(re.findall(r"^\| (\w[^|]*) \| ([^|]*) \|", page.partition("| alert |")[2], re.MULTILINE))
    bounds = {}
    for policy in of(planned, "google_monitoring_alert_policy"):
        (condition,) = policy["conditions"]
        asked = condition["condition_prometheus_query_language"][0]
        bounds[condition["display_name"]] = re.findall(r"[>=] ([\d.]+)$", asked["query"]), int(asked["duration"][:-1])
    assert rows.keys() == bounds.keys()
    variables = (CHECKOUT / "terraform" / "cluster" / "variables.tf").read_text()
    (share,) = re.findall(r"error_share = optional\(number, ([\d.]+)\)", variables)
    (latency,) = re.findall(r"latency_s   = optional\(number, ([\d.]+)\)", variables)
    assert f"more than {float(share):.0%}".replace("%", " %") in rows["predictions fail"]
    assert f"longer than {latency} s (`latency_s`)" in rows["predictions are slow"]
    assert rows["workers are replaced"].startswith(*bounds["workers are replaced"][0])
    for title, (_, seconds) in bounds.items():
        assert not seconds or rows[title].endswith(f"for {seconds // 60} minutes")


def loads(server: TorchServe) -> dict[str, float]:
    """By worker, how long it took to load its model."""
    page = httpx.get(f"{server.metrics_url}/metrics", timeout=60, trust_env=False).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.labels["WorkerName"]: sample.value for sample in samples if sample.name == "WorkerLoadTime"}


def test_a_restarted_worker_reports_another_load_time(light_directory: Path, eventually: Eventually) -> None:
    """That is how `changes` counts it: the reported time changes, since two starts never take the same milliseconds."""
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment=ONE_WORKER) as server:
        ((worker, took),) = eventually(lambda: loads(server)).items()
        for process in server.processes():
            if "model_service_worker.py" in " ".join(process.cmdline()):
                process.kill()
        eventually(lambda: loads(server).get(worker, took) != took)
