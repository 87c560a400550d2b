"""Several services in one namespace: each is deployed, changed, rolled back and deleted without the others."""

from __future__ import annotations

import copy
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.objects import Object
from tests.support.api_server import URL, ApiServer
from tests.support.deployments import BROKEN, FAST, ONE, THREE, TWO, Deploy, Heard, Make, reason
from tests.support.second_services import CHOICES, Choice, called, write_overlay

pytest_plugins = ["tests.support.deployments"]

Objects = dict[tuple[str, str], Object]


def of(name: str, api: ApiServer) -> Objects:
    """A copy of a service's objects, including those that follow its name."""
    return {key: copy.deepcopy(found) for key, found in api.objects.items() if key[1].startswith(name)}


def uri_of(name: str, api: ApiServer) -> str:
    return str(api.objects["inferenceservices", name]["spec"]["predictor"]["model"]["storageUri"])


def test_a_second_service_has_everything_of_its_own(api: ApiServer, deploy: Deploy, make: Make, heard: Heard) -> None:
    deploy(ONE)
    before = of("alexnet", api)
    assert make(name="cats").deploy(TWO) == URL.replace("alexnet", "cats")
    assert of("alexnet", api) == before
    assert of("cats", api).keys() == {
        ("serviceaccounts", "cats"),
        ("servingruntimes", "cats-torchserve"),
        ("inferenceservices", "cats"),
        ("configmaps", "cats-deployments"),
    }
    predictor = api.objects["inferenceservices", "cats"]["spec"]["predictor"]
    assert (predictor["serviceAccountName"], predictor["model"]["runtime"]) == ("cats", "cats-torchserve")
    assert "applied      ServiceAccount cats, ServingRuntime cats-torchserve, InferenceService cats" in heard.said


def test_each_is_changed_rolled_back_and_deleted_on_its_own(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE, image="registry.example/alexnet:1")
    make(name="cats").deploy(TWO, image="registry.example/cats:1")
    first = of("alexnet", api)
    make(name="cats").deploy(THREE, image="registry.example/cats:2")
    make(name="cats").roll_back()
    assert uri_of("cats", api) == TWO
    container = api.objects["servingruntimes", "cats-torchserve"]["spec"]["containers"][0]
    assert container["image"] == "registry.example/cats:1"
    assert of("alexnet", api) == first
    second = of("cats", api)
    deploy(THREE, image="registry.example/alexnet:3")
    make().roll_back()
    assert uri_of("alexnet", api) == ONE
    assert of("cats", api) == second
    make().delete()
    assert api.objects == second
    make(name="cats").delete()
    assert api.objects == {}


def test_one_that_fails_is_rolled_back_alone_and_the_message_names_it(
    api: ApiServer, deploy: Deploy, make: Make
) -> None:
    deploy(ONE)
    before = of("alexnet", api)
    api.scripts[THREE] = [BROKEN]
    first = reason(lambda: make(name="cats").deploy(THREE))
    assert first.endswith("deploy another, or remove it with scripts/deploy.sh --delete --name cats")
    again = reason(lambda: make(name="cats").deploy(THREE, rollback=False))
    assert again.endswith("; it is left as it is (deploy another, or use --delete --name cats)")
    make(name="cats").deploy(TWO)
    assert reason(lambda: make(name="cats").deploy(THREE)).endswith(f"; rolled back to {TWO}, which is ready again")
    left = reason(lambda: make(name="cats").deploy(THREE, rollback=False))
    assert left.endswith("; it is left as it is (--rollback --name cats returns to the version before)")
    assert of("alexnet", api) == before


def test_a_missing_service_is_named(api: ApiServer, deploy: Deploy, make: Make, heard: Heard) -> None:
    deploy(ONE)
    before = copy.deepcopy(api.objects)
    assert reason(lambda: make(name="cats").roll_back()) == (
        "there is no InferenceService cats in namespace models: deploy one with --storage-uri, or choose another "
        "--name or --namespace"
    )
    make(name="cats").delete()
    assert heard.said[-1] == "nothing to delete"
    assert api.objects == before


@pytest.fixture
def staging(overlays: Path) -> str:
    """An overlay with its own name for its service."""
    (overlays / "staging").mkdir()
    (overlays / "staging" / "kustomization.yaml").write_text("nameSuffix: -staging\nresources: [../standard]\n")
    return "staging"


def test_an_overlay_may_name_its_service(api: ApiServer, deploy: Deploy, make: Make, staging: str) -> None:
    deploy(ONE)
    before = of("alexnet", api)
    assert deploy(TWO, staging) == URL.replace("alexnet", "alexnet-staging")
    assert make(name="alexnet-staging").deploy(THREE, staging) == URL.replace("alexnet", "alexnet-staging")
    make(name="alexnet-staging").roll_back()
    assert uri_of("alexnet-staging", api) == TWO
    make(name="alexnet-staging").delete()
    assert api.objects == before
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO, staging)).endswith("scripts/deploy.sh --delete --name alexnet-staging")
    make().delete(staging)
    assert api.objects == before


def test_an_overlay_that_names_its_service_accepts_no_other_name(api: ApiServer, make: Make, staging: str) -> None:
    assert reason(lambda: make(name="cats").deploy(ONE, staging)) == (
        "overlay staging names its service alexnet-staging itself: leave out --name, or give --name alexnet-staging"
    )
    assert api.calls == []


NO_NAMES = ["", "Cats", "1cat", "cats.dogs", "cats-", "-cats", "c_ts", "kätzchen", "c" * 48, "cats\n", "a b", "$(X)"]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_names_that_kserve_would_refuse_are_refused(name: str, api: ApiServer, make: Make) -> None:
    assert reason(lambda: make(name=name)).startswith(
        f"{name!r} cannot be a service's name: use lower-case letters, digits"
    )
    assert api.calls == []


@pytest.mark.parametrize("ending", ["predictor", "metrics", "public", "candidate"])
def test_an_existing_service_with_a_reserved_ending_can_be_rolled_back_and_deleted(
    ending: str, api: ApiServer, make: Make
) -> None:
    name = f"cats-{ending}"
    make(name=name).deploy(ONE)
    make(name=name).deploy(TWO)
    make(name=name).roll_back()
    assert uri_of(name, api) == ONE
    make(name=name).delete()
    assert api.objects == {}


@pytest.mark.parametrize("name", ["on", "null", "x", "c" * 47, "alexnet-2"])
def test_a_name_stays_text_whatever_yaml_would_make_of_it(name: str, api: ApiServer, make: Make) -> None:
    make(name=name).deploy(ONE)
    assert api.objects["inferenceservices", name]["spec"]["predictor"]["serviceAccountName"] == name
    make(name=name).delete()
    assert api.objects == {}


OTHER_KINDS = {
    "v1": {"Service": "services"},
    "monitoring.coreos.com/v1": {"ServiceMonitor": "servicemonitors"},
    "monitoring.googleapis.com/v1": {"PodMonitoring": "podmonitorings"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "gateway.networking.k8s.io/v1": {"Gateway": "gateways", "HTTPRoute": "httproutes"},
    "networking.gke.io/v1": {
        "GCPBackendPolicy": "gcpbackendpolicies",
        "GCPGatewayPolicy": "gcpgatewaypolicies",
        "HealthCheckPolicy": "healthcheckpolicies",
    },
    "serving.kserve.io/v1alpha1": {"ClusterStorageContainer": "clusterstoragecontainers"},
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=called)
def test_two_of_every_overlay_and_component_go_together_and_apart(
    choice: Choice, api: ApiServer, heard: Heard, tmp_path: Path, rendered_once: None
) -> None:
    for version, kinds in OTHER_KINDS.items():
        api.kinds[version] = api.kinds.get(version, {}) | kinds
    api.namespaces.add("alexnet")
    api.mode = "Knative" if "knative" in choice else "Standard"
    write_overlay(tmp_path / "chosen" / "it", choice)
    image = None if "stock-runtime" in choice else "registry.example/alexnet:2"
    with closing(Cluster("alexnet" if "restricted-namespace" in choice else "models")) as cluster:

        def deployment(name: str | None) -> Deployment:
            return Deployment(cluster, tmp_path / "chosen", heard.voice, FAST, name)

        deployment(None).deploy(ONE, "it", image)
        first = {key: copy.deepcopy(found) for key, found in api.objects.items() if key[0] != "namespaces"}
        deployment("cats").deploy(TWO, "it", image)
        deployment("cats").deploy(THREE, "it", image)
        deployment("cats").roll_back()
        assert {key: found for key, found in api.objects.items() if key in first} == first
        assert len(api.objects) == 2 * len(first) + ("restricted-namespace" in choice)
        second = {key: copy.deepcopy(found) for key, found in api.objects.items() if key[1].startswith("cats")}
        deployment(None).delete()
        assert {key: found for key, found in api.objects.items() if key in second} == second
        deployment("cats").delete()
    stay = {"namespaces", "clusterstoragecontainers"}
    assert {plural for plural, _ in api.objects} == (stay if "restricted-namespace" in choice else set())
