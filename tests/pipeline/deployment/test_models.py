"""Models with other names: the service, its routes and requests to it follow; a rollback restores them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.golden import Golden
from pipeline.deployment.models import model_of
from pipeline.deployment.objects import Object
from pipeline.serving.comparing import Picture
from pipeline.store.publish import Outcome
from tests.support.api_server import URL, ApiServer
from tests.support.deployments import BROKEN, FAST, ONE, THREE, TWO, Heard, reason

pytest_plugins = ["tests.support.deployments"]

MODEL = "torchserve-alexnet/model"
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: alexnet-public
spec:
  rules:
    - matches:
        - {method: POST, path: {type: Exact, value: "/v1/models/alexnet:predict"}}
        - {method: GET, path: {type: Exact, value: "/v1/models/alexnet"}}
"""

Make = Callable[..., Deployment]


@pytest.fixture
def make(api: ApiServer, overlays: Path, heard: Heard) -> Iterator[Make]:
    """A deployment; model: from the file that the user gives."""
    api.kinds["gateway.networking.k8s.io/v1"] = {"HTTPRoute": "httproutes"}
    manifests = overlays / "standard" / "manifests.yaml"
    manifests.write_text(f"{manifests.read_text()}---{ROUTE}")
    with closing(Cluster()) as cluster:
        yield lambda name=None, model=None: Deployment(cluster, overlays, heard.voice, FAST, name, model)


@pytest.fixture
def pets_uri(api: ApiServer, cloud: Any, publish: Callable[..., Outcome], pets: Mapping[str, Path]) -> str:
    """A version of pets in Cloud Storage."""
    uri = str(publish(pets).uri)
    api.models[uri] = "pets"
    return uri


def of(name: str, api: ApiServer) -> dict[tuple[str, str], Object]:
    return {key: copy.deepcopy(found) for key, found in api.objects.items() if key[1].startswith(name)}


def paths_of(name: str, api: ApiServer) -> list[str]:
    (rule,) = api.objects["httproutes", f"{name}-public"]["spec"]["rules"]
    return [match["path"]["value"] for match in rule["matches"]]


def model_at(name: str, api: ApiServer) -> str:
    return model_of(api.objects["inferenceservices", name])


def asked(api: ApiServer) -> set[str]:
    return {call.path.partition("/proxy")[2] for call in api.calls if "/proxy/" in call.path}


def test_a_version_in_cloud_storage_has_its_models_name_and_gives_it_to_the_service(
    api: ApiServer, make: Make, pets_uri: str, heard: Heard
) -> None:
    assert make().deploy(pets_uri) == URL.replace("alexnet", "pets")
    assert {name for _, name in api.objects} == {"pets", "pets-torchserve", "pets-public", "pets-deployments"}
    assert (model_at("pets", api), paths_of("pets", api)) == ("pets", ["/v1/models/pets:predict", "/v1/models/pets"])
    assert asked(api) == {"/v1/models/pets:predict"}
    assert "predicted    tench (for a black picture)" in heard.said
    make(name="pets").delete()
    assert api.objects == {}


def test_two_classifiers_in_a_namespace_do_not_touch_each_other(api: ApiServer, make: Make, pets_uri: str) -> None:
    make().deploy(ONE)
    first = of("alexnet", api)
    api.models[TWO] = "pets"
    make().deploy(pets_uri)
    make(model="pets").deploy(TWO)
    assert api.objects["inferenceservices", "pets"]["spec"]["predictor"]["model"]["storageUri"] == TWO
    make(model="pets").roll_back()
    assert api.objects["inferenceservices", "pets"]["spec"]["predictor"]["model"]["storageUri"] == pets_uri
    assert of("alexnet", api) == first
    second = of("pets", api)
    make().deploy(THREE)
    make().roll_back()
    assert of("pets", api) == second
    make().delete()
    assert api.objects == second
    make(model="pets").delete()
    assert api.objects == {}


def test_a_given_name_takes_precedence_over_the_models(api: ApiServer, make: Make, pets_uri: str) -> None:
    assert make(name="shop").deploy(pets_uri) == URL.replace("alexnet", "shop")
    assert (model_at("shop", api), paths_of("shop", api)[0]) == ("pets", "/v1/models/pets:predict")


def test_elsewhere_the_users_file_names_the_model_and_later_the_service_does(api: ApiServer, make: Make) -> None:
    api.models |= dict.fromkeys((ONE, TWO), "pets")
    make(name="shop", model="pets").deploy(ONE)
    make(name="shop").deploy(TWO)
    assert (model_at("shop", api), asked(api)) == ("pets", {"/v1/models/pets:predict"})
    make(name="shop").roll_back()
    assert asked(api) == {"/v1/models/pets:predict"}


def test_an_overlay_may_name_the_model(api: ApiServer, make: Make, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    mode = "    serving.kserve.io/deploymentMode"
    manifests.write_text(manifests.read_text().replace(mode, f"    {MODEL}: pets\n{mode}"))
    api.models[ONE] = "pets"
    make().deploy(ONE)
    assert model_at("pets", api) == "pets"
    make(name="pets").delete()
    assert api.objects == {}


def test_a_version_of_another_model_is_refused(api: ApiServer, make: Make, pets_uri: str) -> None:
    assert reason(lambda: make(model="cats").deploy(pets_uri)) == (
        f"{pets_uri} is a version of pets, not of cats: give that model's file, or none"
    )
    assert api.writes == []


def test_a_service_whose_versions_have_two_models_goes_back_and_forth(
    api: ApiServer, make: Make, pets_uri: str
) -> None:
    make(name="shop").deploy(ONE)
    before = of("shop", api)
    make(name="shop").deploy(pets_uri)
    assert (model_at("shop", api), paths_of("shop", api)[1]) == ("pets", "/v1/models/pets")
    make(name="shop").roll_back()
    assert (model_at("shop", api), paths_of("shop", api)[1]) == ("alexnet", "/v1/models/alexnet")
    assert before["inferenceservices", "shop"]["spec"] == api.objects["inferenceservices", "shop"]["spec"]
    make(name="shop").roll_back()
    assert (model_at("shop", api), paths_of("shop", api)[1]) == ("pets", "/v1/models/pets")


def test_one_that_fails_is_rolled_back_to_the_model_before(api: ApiServer, make: Make, pets_uri: str) -> None:
    make(name="shop").deploy(pets_uri)
    api.scripts[ONE] = [BROKEN]
    said = reason(lambda: make(name="shop", model="alexnet").deploy(ONE))
    assert said.endswith(f"; rolled back to {pets_uri}, which is ready again")
    assert (model_at("shop", api), paths_of("shop", api)[1]) == ("pets", "/v1/models/pets")


def test_a_version_that_kubectl_applied_is_restored_with_its_model(api: ApiServer, make: Make, pets_uri: str) -> None:
    """A version that this tool did not apply is rebuilt from the objects it has."""
    make(name="shop").deploy(ONE)
    del api.objects["configmaps", "shop-deployments"]
    live = api.objects["inferenceservices", "shop"]
    live["spec"]["predictor"]["model"]["storageUri"] = TWO
    live["metadata"]["annotations"][MODEL] = "pets"
    live["metadata"]["managedFields"] = []
    api.models[TWO] = "pets"
    api.scripts[THREE] = [BROKEN]
    said = reason(lambda: make(name="shop", model="alexnet").deploy(THREE))
    assert said.endswith(f"; rolled back to {TWO}, which is ready again")
    assert (model_at("shop", api), paths_of("shop", api)[1]) == ("pets", "/v1/models/pets")


def test_a_service_without_a_models_name_is_alexnet(api: ApiServer, make: Make) -> None:
    make().deploy(ONE)
    api.service["metadata"]["annotations"].pop(MODEL, None)
    make().deploy(TWO)
    assert asked(api) == {"/v1/models/alexnet:predict"}
    make().roll_back()


@pytest.mark.parametrize("said", ["../../../../secrets", "pets/../..", "pets?x=", "", "a b"])
def test_an_invalid_name_never_becomes_part_of_a_path(api: ApiServer, make: Make, said: str) -> None:
    """Otherwise, writing an InferenceService would be enough to choose API calls that run with the user's rights."""
    make(name="shop").deploy(ONE)
    api.objects["inferenceservices", "shop"]["metadata"]["annotations"][MODEL] = said
    make(name="shop").deploy(TWO)
    assert asked(api) == {"/v1/models/alexnet:predict"}


@pytest.mark.parametrize("model", ["9pets", "pets.v2", "a" * 48, "pets-public", "pets-candidate"])
def test_a_model_whose_name_cannot_be_a_services_needs_a_name_option(api: ApiServer, make: Make, model: str) -> None:
    api.models[ONE] = model
    said = reason(lambda: make(model=model).deploy(ONE))
    assert said.startswith("the service would be named after the model: ")
    assert said.endswith("give --name")
    make(name="shop", model=model).deploy(ONE)
    assert asked(api) == {f"/v1/models/{model}:predict"}


def test_a_trial_asks_each_version_for_its_own_model(
    api: ApiServer, make: Make, pets_uri: str, photographs: list[Path]
) -> None:
    make(name="shop").deploy(ONE)
    golden = Golden("here", [Picture("p", photographs[0].read_bytes())], None)
    make(name="shop").deploy(pets_uri, golden=golden)
    assert asked(api) == {"/v1/models/alexnet:predict", "/v1/models/pets:predict"}
    assert model_at("shop", api) == "pets"
