"""A deployment, against our own API server: what is applied, and in which order."""

from __future__ import annotations

import copy
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.manifests import overlay_names
from tests.support.api_server import URL, ApiServer
from tests.support.deployments import FAST, ONE, TWO, Deploy, Heard, reason

pytest_plugins = ["tests.support.deployments"]


OVERLAYS = overlay_names(Path(__file__).resolve().parents[3] / "kserve" / "overlays")


def test_it_applies_the_whole_overlay_and_the_service_last(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    assert deploy(ONE) == URL
    assert api.applied == ["ServiceAccount", "ServingRuntime", "InferenceService"]
    assert api.storage_uri == ONE
    assert all(found["metadata"]["namespace"] == "models" for found in api.objects.values())
    assert [line.split()[0] for line in heard.said] == [
        "cluster",
        "KServe",
        "permissions",
        "image",
        "applied",
        "predicted",
        "inside",
    ]
    assert heard.warned == [f"{ONE} is neither in Cloud Storage nor in a registry, so it was not checked"]


def test_the_image_is_the_overlays_or_the_given_one(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    assert api.image == "registry.example/alexnet:1"
    deploy(ONE, image="registry.example/alexnet:2")
    assert api.image == "registry.example/alexnet:2"


def test_an_overlay_without_a_runtime_takes_no_image(api: ApiServer, deploy: Deploy) -> None:
    assert "leave out --image" in reason(lambda: deploy(ONE, "stock-runtime", image="registry.example/alexnet:2"))
    assert deploy(ONE, "stock-runtime") == URL
    assert api.applied == ["ServiceAccount", "InferenceService"]


def test_the_checkout_is_not_edited(api: ApiServer, deploy: Deploy, overlays: Path) -> None:
    before = {file: file.read_bytes() for file in overlays.rglob("*.yaml")}
    deploy(ONE, image="registry.example/alexnet:2")
    assert {file: file.read_bytes() for file in overlays.rglob("*.yaml")} == before


def test_deploying_the_same_again_changes_nothing(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    before = copy.deepcopy(api.service)
    deploy(ONE)
    assert before["metadata"].pop("resourceVersion") != api.service["metadata"].pop("resourceVersion")
    assert api.service == before


def test_fields_of_others_are_left_alone(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    scaled = {"metadata": {"name": "alexnet"}, "spec": {"predictor": {"maxReplicas": 7}}}
    api.put("inferenceservices", scaled, "autoscaler")
    deploy(TWO)
    assert api.service["spec"]["predictor"]["maxReplicas"] == 7


def test_a_field_that_somebody_else_set_is_named_and_nothing_changes(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    edit = {"metadata": {"name": "alexnet"}, "spec": {"predictor": {"minReplicas": 5}}}
    api.put("inferenceservices", edit, "kubectl-edit")
    api.calls.clear()
    sentence = reason(lambda: deploy(TWO))
    assert sentence.startswith(
        "alexnet (inferenceservices): .spec.predictor.minReplicas was set by another field manager, kubectl-edit: "
        "change it with that, or remove the object (kubectl -n models delete inferenceservices alexnet) and run this"
    )
    assert api.writes == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_of_the_checkout_can_be_deployed_and_removed(
    name: str, api: ApiServer, heard: Heard, checkout: Path
) -> None:
    with closing(Cluster()) as cluster:
        deployment = Deployment(cluster, checkout / "kserve" / "overlays", heard.voice, FAST)
        image = None if name == "stock-runtime" else "registry.example/alexnet:2"
        assert deployment.deploy(ONE, name, image) == URL
        assert api.storage_uri == ONE
        deployment.delete()
    assert api.objects == {}
