"""What an older KServe gets from the overlays, and what is refused there."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from pipeline.deployment.errors import NotInKServe
from pipeline.deployment.kserve_versions import KServeVersion, fitted
from pipeline.deployment.manifests import render
from pipeline.deployment.objects import AUTOSCALER, MODE, Object, annotations_of, service_of
from tests.support.api_server import ApiServer
from tests.support.deployments import ONE, TWO, Deploy, Make, reason

pytest_plugins = ["tests.support.deployments"]

STRATEGY = {"type": "RollingUpdate"}
EVERY = [(0, 15, 0), (0, 15, 2), (0, 16, 0), (0, 19, 0), (0, 20, 0), (0, 21, 0), None]


def service(mode: str = "Standard", autoscaler: str | None = None, **predictor: object) -> list[Object]:
    annotations = {MODE: mode} | ({AUTOSCALER: autoscaler} if autoscaler else {})
    metadata = {"name": "alexnet", "annotations": annotations}
    return [{"kind": "InferenceService", "metadata": metadata, "spec": {"predictor": {"minReplicas": 2, **predictor}}}]


@pytest.mark.parametrize(
    ("written", "old", "new"),
    [("Standard", "RawDeployment", "Standard"), ("Knative", "Serverless", "Knative")],
)
def test_the_mode_has_the_name_that_kserve_knows(written: str, old: str, new: str) -> None:
    """Each refuses deploymentStrategy with a mode that it does not know; later ones also with RawDeployment."""
    for version in EVERY:
        expected = old if version is not None and version < (0, 16) else new
        for name in (old, new):
            assert annotations_of(service_of(fitted(service(name), version)))[MODE] == expected


def test_autoscaler_fields_unknown_to_0_15_are_left_to_kubernetes() -> None:
    """The component only repeats what a HorizontalPodAutoscaler does by default."""
    metrics, behavior = [{"type": "External"}], {"scaleDown": {"stabilizationWindowSeconds": 300}}
    given = service(autoscaler="keda", autoScaling={"metrics": metrics, "behavior": behavior})
    for version in EVERY:
        has_it = version is None or version >= (0, 16)
        expected = {"metrics": metrics} | ({"behavior": behavior} if has_it else {})
        assert service_of(fitted(given, version))["spec"]["predictor"]["autoScaling"] == expected


def test_0_15_0_gets_the_same_number_of_replicas() -> None:
    """0.15.0 does not know the autoscaler `none`, and refuses it; 0.15.1 knows it."""
    for version in EVERY:
        found = service_of(fitted(service(autoscaler="none"), version))
        told = annotations_of(found)[AUTOSCALER], found["spec"]["predictor"].get("maxReplicas")
        assert told == (("hpa", 2) if version == (0, 15, 0) else ("none", None))


@pytest.mark.parametrize("version", [(0, 15, 2), (0, 19, 1)])
def test_a_field_that_cannot_be_left_out_is_refused(version: KServeVersion) -> None:
    number = ".".join(map(str, version))
    with pytest.raises(NotInKServe) as raised:
        fitted(service(storageContainerName="restricted"), version)
    assert str(raised.value) == (
        f"the overlay needs spec.predictor.storageContainerName, which KServe has had since 0.20, and this cluster has "
        f"{number}: upgrade KServe, or remove the component that uses it from the overlay"
    )


@pytest.mark.parametrize("version", [(0, 20, 0), (0, 21, 0), None])
def test_from_0_20_on_nothing_is_changed(version: KServeVersion | None, checkout: Path) -> None:
    for overlay in ("standard", "knative", "kind"):
        objects = render(checkout / "kserve" / "overlays", overlay)
        assert fitted(objects, version) == objects
    assert fitted(service(storageContainerName="restricted"), version) == service(storageContainerName="restricted")


def test_its_input_is_not_modified() -> None:
    given = service(autoscaler="none", autoScaling={"behavior": {}})
    before = copy.deepcopy(given)
    fitted(given, (0, 15, 0))
    assert given == before


def test_deployments_and_rollbacks_are_fitted(api: ApiServer, deploy: Deploy, make: Make) -> None:
    api.controller = {"image": "kserve/kserve-controller:v0.15.2"}
    deploy(ONE)
    assert annotations_of(api.service)[MODE] == "RawDeployment"
    api.controller = {"image": "kserve/kserve-controller:v0.20.0"}
    api.answers[TWO] = 500, {"error": "broken"}
    assert f"rolled back to {ONE}" in reason(lambda: deploy(TWO))
    assert annotations_of(api.service)[MODE] == "Standard"
    api.controller = {"image": "kserve/kserve-controller:v0.15.2"}
    del api.answers[TWO]
    deploy(TWO)
    make().roll_back()
    assert (api.storage_uri, annotations_of(api.service)[MODE]) == (ONE, "RawDeployment")


def test_a_field_that_kserve_lacks_is_refused_before_anything_changes(
    api: ApiServer, deploy: Deploy, overlays: Path
) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    text = manifests.read_text()
    manifests.write_text(text.replace("    minReplicas: 1\n", "    minReplicas: 1\n    storageContainerName: x\n"))
    api.controller = {"image": "kserve/kserve-controller:v0.18.1"}
    assert reason(lambda: deploy(ONE)).startswith("the overlay needs spec.predictor.storageContainerName")
    assert api.writes == []
