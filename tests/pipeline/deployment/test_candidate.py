"""How an overlay's objects change to run next to the live version without getting any requests."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from pipeline.deployment.candidate import CANDIDATE_OF, candidate_of
from pipeline.deployment.manifests import in_namespace, placed, render
from pipeline.deployment.objects import Object, annotations_of, name_of, service_of
from tests.support.deployments import TWO

pytestmark = pytest.mark.slow  # kubectl renders the overlays


def rendered(checkout: Path, overlay: str) -> list[Object]:
    image = None if overlay == "stock-runtime" else "registry.example/alexnet:2"
    return in_namespace(placed(render(checkout / "kserve" / "overlays", overlay), TWO, image), "models")


@pytest.mark.parametrize("overlay", ["standard", "knative", "gpu", "stock-runtime", "kind"])
def test_every_overlays_candidate_is_one_pod_without_a_route(overlay: str, checkout: Path) -> None:
    objects = rendered(checkout, overlay)
    before = copy.deepcopy(objects)
    candidate = candidate_of(objects)
    assert objects == before
    assert {found["kind"] for found in candidate} <= {"ServingRuntime", "InferenceService"}
    service, original = service_of(candidate), service_of(objects)
    assert name_of(service) == "alexnet-candidate"
    assert annotations_of(service)[CANDIDATE_OF] == "alexnet"
    predictor, were = service["spec"]["predictor"], original["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    assert predictor.keys().isdisjoint({"scaleMetric", "scaleTarget", "autoScaling", "canaryTrafficPercent"})
    assert predictor["serviceAccountName"] == were["serviceAccountName"]
    assert predictor["model"]["storageUri"] == TWO
    assert annotations_of(service).get("serving.kserve.io/autoscalerClass", "none") == "none"
    local = "networking.knative.dev/visibility" if overlay == "knative" else "networking.kserve.io/visibility"
    assert service["metadata"]["labels"][local] == "cluster-local"
    if overlay == "stock-runtime":
        assert predictor["model"]["runtime"] == were["model"]["runtime"]
    else:
        (runtime,) = (found for found in candidate if found["kind"] == "ServingRuntime")
        assert predictor["model"]["runtime"] == name_of(runtime) == f"{were['model']['runtime']}-candidate"
        (was,) = (found for found in objects if found["kind"] == "ServingRuntime")
        assert runtime["spec"] == was["spec"]


def test_it_includes_the_component_network_policy(checkout: Path) -> None:
    folder = checkout / "kserve" / "components" / "network-policy"
    (policy,) = yaml.safe_load_all((folder / "network-policy.yaml").read_text())
    (first, *_) = candidate_of([*rendered(checkout, "standard"), policy])
    assert name_of(first) == "alexnet-candidate"
    assert first["spec"] == policy["spec"] | {
        "podSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": "alexnet-candidate"}}
    }
