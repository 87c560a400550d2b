"""The way back, by itself and when asked for: to which version, with what, and what is remembered."""

from __future__ import annotations

import copy

from tests.support.api_server import READY, URL, ApiServer
from tests.support.deployments import BROKEN, ONE, THREE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]


def test_a_version_that_fails_is_rolled_back_to_what_was_there_before(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE, image="registry.example/alexnet:1")
    before = copy.deepcopy(api.objects)
    api.scripts[TWO] = [BROKEN]
    failed = reason(lambda: deploy(TWO, image="registry.example/alexnet:2"))
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uris == [ONE, TWO, ONE]
    for key, was in before.items():
        now = api.objects[key]
        assert now.get("spec") == was.get("spec")
        assert now["metadata"]["annotations"] == was["metadata"]["annotations"]


def test_what_was_applied_by_other_means_is_rolled_back_too(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    service = api.service
    service["metadata"]["annotations"].clear()
    service["metadata"]["managedFields"][0]["manager"] = "kubectl"
    service["metadata"]["managedFields"][0]["fieldsV1"] = {}
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO)).endswith(f"; rolled back to {ONE}, which is ready again")


def test_without_an_earlier_version_it_is_left_and_the_line_says_how_to_remove_it(
    api: ApiServer, deploy: Deploy
) -> None:
    api.scripts[ONE] = [BROKEN]
    failed = reason(lambda: deploy(ONE))
    assert "left in place" in failed
    assert "scripts/deploy.sh --delete" in failed
    assert api.storage_uri == ONE


def test_no_rollback_leaves_what_failed(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    assert "left as it is" in reason(lambda: deploy(TWO, rollback=False))
    assert api.storage_uri == TWO


def test_a_version_that_never_was_ready_is_none_to_go_back_to(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    api.scripts[TWO] = api.scripts[THREE] = [BROKEN]
    reason(lambda: deploy(TWO, rollback=False))
    assert reason(lambda: deploy(THREE)).endswith(f"; rolled back to {ONE}, which is ready again")


def test_the_same_broken_version_again_is_rolled_back_to_the_one_before_it(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    reason(lambda: deploy(TWO, rollback=False))
    assert reason(lambda: deploy(TWO)).endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uri == ONE


def test_when_the_way_back_fails_as_well_both_reasons_are_told(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.scripts[ONE] = api.scripts[TWO] = [BROKEN]
    api.scripts[ONE] = [READY, READY, BROKEN]
    failed = reason(lambda: deploy(TWO))
    assert f"going back to {ONE} failed as well: kserve-container of" in failed


def test_rollback_returns_to_the_version_and_image_before_and_twice_is_where_it_was(
    api: ApiServer, deploy: Deploy, make: Make, heard: Heard
) -> None:
    deploy(ONE, image="registry.example/alexnet:1")
    deploy(TWO, image="registry.example/alexnet:2")
    after = copy.deepcopy(api.service["spec"])
    assert make().roll_back() == URL
    assert (api.storage_uri, api.image) == (ONE, "registry.example/alexnet:1")
    assert heard.said[-1].endswith(f"back at      {ONE}")
    make().roll_back()
    assert (api.storage_uri, api.image) == (TWO, "registry.example/alexnet:2")
    assert api.service["spec"] == after


def test_rollback_changes_nothing_else(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    deploy(TWO)
    before = copy.deepcopy(api.service)
    make().roll_back()
    before["spec"]["predictor"]["model"]["storageUri"] = ONE
    assert api.service["spec"] == before["spec"]
    assert api.service["metadata"]["labels"] == before["metadata"]["labels"]
    assert api.service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_rollback_after_a_failure_that_was_rolled_back_returns_to_the_version_before_that(
    api: ApiServer, deploy: Deploy, make: Make
) -> None:
    deploy(ONE)
    deploy(TWO)
    api.scripts[THREE] = [BROKEN]
    reason(lambda: deploy(THREE))
    make().roll_back()
    assert api.storage_uri == ONE


def test_rollback_without_anything_to_return_to_says_so(api: ApiServer, deploy: Deploy, make: Make) -> None:
    assert "there is no InferenceService alexnet in namespace models" in reason(lambda: make().roll_back())
    deploy(ONE)
    api.calls.clear()
    assert f"there is no version before {ONE}" in reason(lambda: make().roll_back())
    assert api.writes == []


def test_another_overlay_that_fails_is_rolled_back_too(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    before = copy.deepcopy(api.service["spec"])
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO, "stock-runtime")).endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.service["spec"] == before


def test_what_is_remembered_is_written_as_live_clusters_have_it(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    deploy(TWO)
    annotations = dict(api.service["metadata"]["annotations"])
    assert len(annotations.pop("torchserve-alexnet/deployed")) == 12
    assert annotations == {
        "serving.kserve.io/deploymentMode": "Standard",
        "torchserve-alexnet/overlay": "standard",
        "torchserve-alexnet/previous-storage-uri": ONE,
        "torchserve-alexnet/previous-image": "registry.example/alexnet:1",
        "torchserve-alexnet/objects": (
            "serving.kserve.io/v1alpha1 ServingRuntime alexnet-torchserve; "
            "serving.kserve.io/v1beta1 InferenceService alexnet; v1 ServiceAccount alexnet"
        ),
    }
