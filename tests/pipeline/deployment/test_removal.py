"""Removal: everything that was applied, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.deployment.pace import Pace
from tests.support.api_server import AT_ONCE, MANAGER, ApiServer
from tests.support.deployments import BROKEN, ONE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]


def test_delete_removes_what_was_applied_and_nothing_else(
    api: ApiServer, deploy: Deploy, make: Make, heard: Heard
) -> None:
    deploy(ONE)
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}}
    api.put("configmaps", theirs, "kubectl")
    make().delete()
    assert list(api.objects) == [("configmaps", "theirs")]
    deleted = [call.path.rsplit("/", 2)[-2] for call in api.writes if call.method == "DELETE"]
    assert deleted == ["inferenceservices", "servingruntimes", "serviceaccounts"]
    assert heard.said[-1] == (
        "deleted      InferenceService alexnet, ServingRuntime alexnet-torchserve, ServiceAccount alexnet"
    )


def test_delete_leaves_an_object_of_the_same_name_that_somebody_else_applied(
    api: ApiServer, make: Make, heard: Heard
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "alexnet"}, "automount": False}
    api.put("serviceaccounts", account, "terraform", "Apply")
    make().delete()
    assert list(api.objects) == [("serviceaccounts", "alexnet")]
    assert heard.warned == ["ServiceAccount alexnet was not applied by this tool: it is kept"]
    assert heard.said[-1] == "nothing to delete"


def test_delete_knows_the_overlay_that_was_applied(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE, "stock-runtime")
    runtime = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "alexnet-torchserve"},
    }
    api.put("servingruntimes", runtime, MANAGER, "Apply")
    make().delete()
    assert list(api.objects) == [("servingruntimes", "alexnet-torchserve")]


def test_an_object_that_stays_is_named_with_its_finalizers(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    api.finalized = False
    sentence = reason(lambda: make(Pace(timeout=0.02, poll=0.001)).delete())
    assert sentence.startswith("InferenceService alexnet is being deleted, but was not gone within 0.02 s")
    assert "inferenceservice.finalizers" in sentence


def test_everything_works_from_an_empty_namespace_and_back(api: ApiServer, deploy: Deploy, make: Make) -> None:
    api.scripts[ONE] = AT_ONCE
    for _ in range(2):
        deploy(ONE)
        make().delete()
        assert api.objects == {}


@pytest.fixture
def guarded(overlays: Path) -> str:
    """An overlay with one object more than `standard`."""
    (overlays / "guarded").mkdir()
    (overlays / "guarded" / "kustomization.yaml").write_text("resources: [../standard, budget.yaml]\n")
    (overlays / "guarded" / "budget.yaml").write_text(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: alexnet}\nspec: {maxUnavailable: 1}\n"
    )
    return "guarded"


def test_delete_knows_what_an_earlier_overlay_had(api: ApiServer, deploy: Deploy, make: Make, guarded: str) -> None:
    deploy(ONE, guarded)
    deploy(TWO)
    assert ("poddisruptionbudgets", "alexnet") in api.objects
    make().delete()
    assert api.objects == {}


def test_delete_removes_the_service_before_what_it_needs_even_from_earlier_overlays(
    api: ApiServer, deploy: Deploy, make: Make, heard: Heard
) -> None:
    """Its runtime comes from an earlier overlay."""
    deploy(ONE)
    deploy(TWO, "stock-runtime")
    make().delete()
    assert heard.said[-1] == (
        "deleted      InferenceService alexnet, ServingRuntime alexnet-torchserve, ServiceAccount alexnet"
    )
    assert api.objects == {}


def test_delete_knows_what_a_deployment_had_that_was_rolled_back(
    api: ApiServer, deploy: Deploy, make: Make, guarded: str
) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    assert "rolled back" in reason(lambda: deploy(TWO, guarded))
    make().delete()
    assert api.objects == {}
