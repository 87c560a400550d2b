"""Every value that terraform/kserve gives to a chart is one that the chart of that version reads, of the right type."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.kserve_crds import Schemas
from tests.support.structural_schema import Schema, errors
from tests.support.terraform import CHECKOUT, Resource
from tests.terraform.chart_values import CHARTS, KNATIVE_SERVING, Chart, chart_of, unread
from tests.terraform.validators import listed

pytestmark = pytest.mark.timeout(600)  # the first test that needs it waits for all of `terraform test`

OWN = CHECKOUT / "terraform" / "kserve" / "charts" / "knative-serving"


@pytest.fixture(scope="module")
def releases(planned: list[Resource]) -> list[Resource]:
    """The plan of each helm_release, with its values parsed."""
    found = [resource["values"] for resource in planned if resource["type"] == "helm_release"]
    assert found
    return [{**release, "read": [yaml.safe_load(text) for text in release.get("values") or ()]} for release in found]


def wrong(values: dict[str, Any], chart: Chart) -> list[str]:
    found = [f"{path}: the chart reads no such value" for path in unread(values, chart.values)]
    for path, check in chart.values.items():
        found += [f"{path}: {value!r} is not {check.wanted}" for value in listed(values, path) if not check.fits(value)]
    return found


def test_every_chart_was_checked_in_the_installed_version(releases: list[Resource]) -> None:
    installed = {chart_of(release) for release in releases}
    assert installed == {(name, chart.version) for name, chart in CHARTS.items()}, (
        "read the values of this chart in this version, and change the table"
    )


def test_every_value_is_one_that_the_chart_reads(releases: list[Resource]) -> None:
    for release in releases:
        name, _ = chart_of(release)
        for values in release["read"]:
            assert wrong(values, CHARTS[name]) == [], name


def test_the_table_has_nothing_that_is_not_set(releases: list[Resource]) -> None:
    for name, chart in CHARTS.items():
        given = [values for release in releases if chart_of(release)[0] == name for values in release["read"]]
        assert [path for path in chart.values if not any(listed(values, path) for values in given)] == [], name


def test_values_for_pods_fit_kubernetes_schema(releases: list[Resource], crd_schemas: Schemas) -> None:
    # KServe's own schema has all of a pod in it.
    pod = crd_schemas["serving.kserve.io/v1beta1 InferenceService"]["properties"]["spec"]["properties"]["predictor"]
    for release in releases:
        name, _ = chart_of(release)
        for path, place in CHARTS[name].of_a_pod.items():
            for value in (value for values in release["read"] for value in listed(values, path)):
                assert list(errors(value, part(pod, place), path)) == []


def part(schema: Schema, place: str) -> Schema:
    """`containers.securityContext` in a pod's schema; for a list, the items' schema."""
    for name in place.split("."):
        schema = schema.get("items", schema)["properties"][name]
    return schema


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kserve": {"controller": {"deploymentmode": "Standard"}}}, "deploymentmode: the chart reads no such value"),
        ({"kserve": {"controller": {"deploymentMode": "Serverles"}}}, "'Serverles' is not one of"),
        ({"kserve": {"storage": {"image": "example.com:5000/storage:v1"}}}, "is not an image without its tag"),
        ({"kserve": {"controller": "Standard"}}, "kserve.controller: the chart reads no such value"),
        ({"kserve": {"controller": {"gateway": {"disableIngressCreation": "false"}}}}, "'false' is not true or false"),
        ({"kserve": {"controller": {"gateway": {"ingressGateway": {"kserveGateway": "a-/b"}}}}}, "is not NAMESPACE/"),
        ({"kserve": {"controller": {"gateway": {"ingressGateway": {"kserveGateway": "b"}}}}}, "is not NAMESPACE/NAME"),
    ],
)
def test_a_value_that_the_chart_does_not_accept_is_found(values: dict[str, Any], reason: str) -> None:
    [found] = wrong(values, CHARTS["kserve-resources"])
    assert reason in found


# --- The chart of our own ---------------------------------------------------------------------------------------------


def test_our_own_charts_values_file_matches() -> None:
    assert set(yaml.safe_load((OWN / "values.yaml").read_text())) >= set(CHARTS["./charts/knative-serving"].values)


def skeleton(template: str) -> list[dict[str, Any]]:
    """A template's objects without helm: without its actions, and with `text` in place of values."""
    lines = [line for line in template.splitlines() if not re.fullmatch(r"\s*\{\{.*\}\}", line)]
    return [found for found in yaml.safe_load_all(re.sub(r"\{\{.*?\}\}", "text", "\n".join(lines))) if found]


def filled(value: Any) -> Any:
    """Without the parts that only an action would fill."""
    if isinstance(value, dict):
        return {name: filled(inner) for name, inner in value.items() if inner is not None}
    return [filled(inner) for inner in value] if isinstance(value, list) else value


def test_knative_serving_has_only_fields_that_its_operator_knows() -> None:
    template = (OWN / "templates" / "knative-serving.yaml").read_text()
    [serving] = [found for found in skeleton(template) if found["kind"] == "KnativeServing"]
    assert serving["apiVersion"] == "operator.knative.dev/v1beta1"
    assert list(errors(filled(serving["spec"]), KNATIVE_SERVING, "spec")) == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"ingress": {"kourier": {"serviceType": "ClusterIP"}}}, "serviceType is not a field"),
        ({"ingress": {"kourier": {"enabled": "true"}}}, "is not of type boolean"),
        ({"workloads": [{"name": "webhook", "nodeselector": {}}]}, "nodeselector is not a field"),
        ({"config": {"domain": "example.com"}}, "is not of type object"),
        ({"config": {"network": {"ingress-class": True}}}, "is not of type string"),
    ],
)
def test_a_field_that_the_operator_does_not_know_is_found(spec: dict[str, Any], reason: str) -> None:
    [found] = errors(spec, KNATIVE_SERVING, "spec")
    assert reason in found
