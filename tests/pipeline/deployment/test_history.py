"""Rolling back, automatically and on request: to which version, with which objects, and what is recorded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from unittest import mock

import pytest

from pipeline.deployment.objects import Object
from pipeline.shared.signals import Terminated
from tests.support.api_server import PENDING, READY, URL, ApiServer, Call, Moment, Status
from tests.support.deployments import BROKEN, ONE, THREE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]


def test_a_version_that_fails_is_rolled_back_to_the_previous_one(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE, image="registry.example/alexnet:1")
    before = copy.deepcopy(api.objects)
    api.scripts[TWO] = [BROKEN]
    failed = reason(lambda: deploy(TWO, image="registry.example/alexnet:2"))
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uris == [ONE, TWO, ONE]
    for key, was in before.items():
        now = api.objects[key]
        assert now.get("spec") == was.get("spec")
        assert now["metadata"].get("annotations") == was["metadata"].get("annotations")


def test_a_version_applied_by_other_means_is_rolled_back_too(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    service = api.service
    service["metadata"]["annotations"].clear()
    service["metadata"]["managedFields"][0]["manager"] = "kubectl"
    service["metadata"]["managedFields"][0]["fieldsV1"] = {}
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO)).endswith(f"; rolled back to {ONE}, which is ready again")


def test_without_an_earlier_version_it_is_left_and_the_message_says_how_to_remove_it(
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


def test_a_version_that_never_became_ready_is_not_rolled_back_to(api: ApiServer, deploy: Deploy, make: Make) -> None:
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


def test_when_the_rollback_fails_too_both_reasons_are_given(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.scripts[ONE] = api.scripts[TWO] = [BROKEN]
    api.scripts[ONE] = [READY, READY, BROKEN]
    failed = reason(lambda: deploy(TWO))
    assert f"going back to {ONE} failed as well: kserve-container of" in failed


def test_rollback_returns_to_the_previous_version_and_image_and_twice_ends_where_it_began(
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


def test_the_annotations_keep_the_form_that_live_clusters_have(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    deploy(TWO)
    annotations = dict(api.service["metadata"]["annotations"])
    assert len(annotations.pop("torchserve-alexnet/deployed")) == 12
    assert annotations == {
        "serving.kserve.io/deploymentMode": "Standard",
        "torchserve-alexnet/image": "registry.example/alexnet:1",
        "torchserve-alexnet/overlay": "standard",
        "torchserve-alexnet/objects": (
            "serving.kserve.io/v1alpha1 ServingRuntime alexnet-torchserve; "
            "serving.kserve.io/v1beta1 InferenceService alexnet; v1 ServiceAccount alexnet"
        ),
    }


# --- What has proved itself -------------------------------------------------------------------------------------------

RECORDS = "configmaps", "alexnet-deployments"
STOPPED = mock.patch("pipeline.deployment.deploy.Rollout.wait", side_effect=Terminated(15))  # all is applied by then


def records(api: ApiServer) -> list[Object]:
    found: list[Object] = json.loads(api.objects[RECORDS]["data"]["deployments.json"])
    return found


def uris(api: ApiServer) -> list[str]:
    return [found["storage_uri"] for found in records(api)]


def back_to(uri: str) -> str:
    return f"; rolled back to {uri}, which is ready again"


def test_versions_that_answered_are_recorded_latest_first_and_deleted_with_the_service(
    api: ApiServer, deploy: Deploy, make: Make
) -> None:
    deploy(ONE)
    deploy(TWO)
    assert uris(api) == [TWO, ONE]
    deploy(TWO)
    assert uris(api) == [TWO, ONE]
    (owner,) = api.objects[RECORDS]["metadata"]["ownerReferences"]
    assert owner["uid"] == api.service["metadata"]["uid"]
    make().delete()
    assert api.objects == {}


def test_a_version_that_failed_is_not_recorded(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    reason(lambda: deploy(TWO, rollback=False))
    api.answers[THREE] = (200, {"predictions": ["of another model"]})
    reason(lambda: deploy(THREE, rollback=False))
    assert uris(api) == [ONE]


def test_no_more_than_five_are_kept(api: ApiServer, deploy: Deploy) -> None:
    for number in range(7):
        deploy(f"pvc://models/{number}")
    assert uris(api) == [f"pvc://models/{number}" for number in (6, 5, 4, 3, 2)]


def test_the_live_version_is_rolled_back_to_even_while_one_more_pod_starts(api: ApiServer, deploy: Deploy) -> None:
    """While an autoscaler adds a pod, or a lost one is replaced, KServe reports the service as not ready."""
    deploy(ONE)
    deploy(TWO)
    missing = {"type": "PredictorReady", "status": "False", "reason": "MinimumReplicasUnavailable"}
    api.scripts[TWO] = [Moment(PENDING.pod, {"replicas": 2}, conditions=[missing]), READY]
    api.scripts[THREE] = [BROKEN]
    assert reason(lambda: deploy(THREE)).endswith(back_to(TWO))


def test_a_version_whose_predecessor_still_serves_is_not_rolled_back_to(api: ApiServer, deploy: Deploy) -> None:
    """The old version's pods keep the service ready, whatever was applied since."""
    deploy(ONE)
    api.scripts[TWO] = [Moment(BROKEN.pod, ready=False)]
    reason(lambda: deploy(TWO, rollback=False))
    api.scripts[TWO] = [Moment(BROKEN.pod, {"replicas": 2}, ready=True, has_pod=False)]
    api.scripts[THREE] = [BROKEN]
    assert reason(lambda: deploy(THREE)).endswith(back_to(ONE))


def test_a_live_version_without_a_record_is_asked_first(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    deploy(ONE)
    deploy(TWO)
    del api.objects[RECORDS]  # as of a release that did not note it
    api.scripts[THREE] = [BROKEN]
    assert reason(lambda: deploy(THREE)).endswith(back_to(TWO))
    assert uris(api) == [TWO]


def test_a_live_version_without_answers_is_not_rolled_back_to(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    deploy(ONE)
    del api.objects[RECORDS]
    api.answers[ONE] = (500, {"error": "model: broken"})
    api.scripts[TWO] = [BROKEN]
    assert "there is no earlier version to go back to" in reason(lambda: deploy(TWO))
    assert f"{ONE}, the live version, does not serve: it will not be rolled back to" in heard.warned


def test_a_version_that_somebody_else_changed_is_asked_again_and_rolled_back_to(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.service["spec"]["predictor"]["model"]["storageUri"] = TWO  # by a manager that lets others change it again
    api.scripts[THREE] = [BROKEN]
    assert reason(lambda: deploy(THREE)).endswith(back_to(TWO))
    assert uris(api) == [TWO, ONE]


def test_a_field_of_another_manager_is_left_alone(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    deploy(TWO)
    api.put("inferenceservices", _with_uri(THREE), "kubectl", "Apply")
    refused = reason(lambda: make().roll_back())
    assert ".spec.predictor.model.storageUri was set by another field manager, kubectl: change it with that" in refused
    assert api.storage_uri == THREE


def test_rollback_returns_to_what_an_older_release_remembered(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(TWO)
    del api.objects[RECORDS]
    api.service["metadata"]["annotations"] |= {
        "torchserve-alexnet/previous-storage-uri": ONE,
        "torchserve-alexnet/previous-image": "registry.example/alexnet:0",
    }
    make().roll_back()
    assert (api.storage_uri, api.image) == (ONE, "registry.example/alexnet:0")
    make().roll_back()
    assert (api.storage_uri, api.image) == (TWO, "registry.example/alexnet:1")


def test_rollback_after_only_the_overlay_changed(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    before = copy.deepcopy(api.service)
    deploy(ONE, "stock-runtime")
    make().roll_back()
    assert api.service["spec"] == before["spec"]
    assert api.service["metadata"]["annotations"] == before["metadata"]["annotations"]
    make().roll_back()
    assert api.service["metadata"]["annotations"]["torchserve-alexnet/overlay"] == "stock-runtime"


def test_a_concurrent_record_from_another_machine_is_not_lost(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    interfered: list[Call] = []

    def meanwhile(call: Call) -> None:
        if call.is_record and not interfered:
            interfered.append(call)
            noted = records(api)
            noted.insert(0, noted[0] | {"storage_uri": THREE})
            api.objects[RECORDS]["data"]["deployments.json"] = json.dumps(noted)
            api.objects[RECORDS]["metadata"]["resourceVersion"] = "of somebody else"

    api.trouble = meanwhile
    deploy(TWO)
    assert uris(api) == [TWO, THREE, ONE]


def test_a_version_that_cannot_be_recorded_still_counts_as_serving(
    api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    def broken(call: Call) -> None:
        if call.is_record:
            raise Status(403, 'cannot update resource "configmaps" in API group "" in the namespace "models"')

    api.trouble = broken
    assert deploy(ONE) == URL
    assert heard.warned[-1].startswith(f"could not record that {ONE} serves: you may not update configmaps")


def test_spoilt_records_are_ignored(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    for text in ("", "no JSON", "[1]", '{"a": 1}', '[{"deployed": "x"}]'):
        api.objects[RECORDS]["data"]["deployments.json"] = text
        deploy(TWO)
        deploy(ONE)
        assert uris(api) == [ONE, TWO]


@pytest.fixture
def stopped_on_the_way_back(api: ApiServer, deploy: Deploy, make: Make) -> None:
    """From the second version to the first; and the third, which comes next, is broken."""
    deploy(ONE)
    deploy(TWO)
    with STOPPED, pytest.raises(Terminated):
        make().roll_back()
    api.scripts[THREE] = [BROKEN]


def test_after_a_rollback_a_failure_does_not_lead_back_to_the_version_before_it(
    stopped_on_the_way_back: None, api: ApiServer, deploy: Deploy
) -> None:
    """It was not recorded, and serves by now."""
    assert reason(lambda: deploy(THREE)).endswith(back_to(ONE))
    assert uris(api) == [ONE, TWO]


def test_a_live_version_that_no_longer_serves_is_not_preferred_to_one_that_did_later(
    stopped_on_the_way_back: None, api: ApiServer, deploy: Deploy
) -> None:
    api.answers[ONE] = (500, {"error": "model: broken"})
    assert reason(lambda: deploy(THREE)).endswith(back_to(TWO))


def test_objects_that_were_never_applied_are_not_applied_from_a_record(
    api: ApiServer, deploy: Deploy, make: Make
) -> None:
    """More people may write ConfigMaps than may deploy."""
    deploy(ONE)
    deploy(TWO)
    told = records(api)
    told[1]["objects"].append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"}})
    api.objects[RECORDS]["data"]["deployments.json"] = json.dumps(told)
    assert f"there is no version before {TWO}" in reason(lambda: make().roll_back())
    assert ("configmaps", "planted") not in api.objects


def test_secrets_are_not_recorded(api: ApiServer, deploy: Deploy, overlays: Path) -> None:
    """More people may read a ConfigMap than a Secret."""
    api.kinds["v1"]["Secret"] = "secrets"  # pragma: allowlist secret
    manifests = overlays / "standard" / "manifests.yaml"
    keys = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: keys\nstringData:\n  alice: of-the-test\n"
    manifests.write_text(f"{manifests.read_text().rstrip()}\n---\n{keys}")
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO)).endswith(back_to(ONE))
    assert "of-the-test" not in json.dumps(api.objects[RECORDS])
    assert api.objects["secrets", "keys"]["stringData"] == {"alice": "of-the-test"}


def test_a_service_on_knative_without_pods_is_woken_and_asked(api: ApiServer, deploy: Deploy) -> None:
    """A service without requests has no pod there, or one of an earlier revision."""
    api.mode = "Knative"
    deploy(ONE)
    del api.objects[RECORDS]
    asleep = Moment({}, ready=True, has_pod=False)
    api.scripts[ONE] = [asleep]

    def wake(call: Call) -> None:
        if "/proxy/" in call.path:
            api.scripts[ONE] = [READY]

    api.trouble = wake
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO)).endswith(back_to(ONE))


def test_what_an_older_release_remembered_is_not_lost_before_there_is_a_record(
    api: ApiServer, deploy: Deploy, make: Make
) -> None:
    deploy(TWO)
    _as_an_older_release_left_it(api)
    api.answers[TWO] = (500, {"error": "model: broken"})
    api.scripts[THREE] = [BROKEN]
    reason(lambda: deploy(THREE, rollback=False))
    assert reason(lambda: deploy(THREE)).endswith(back_to(ONE))
    _as_an_older_release_left_it(api)
    reason(lambda: deploy(THREE, rollback=False))
    make().roll_back()
    assert api.storage_uri == ONE


def test_a_live_version_out_of_reach_is_reported(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    deploy(ONE)
    del api.objects[RECORDS]

    def unreachable(call: Call) -> None:
        if "/proxy/" in call.path:
            raise Status(503, "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout")

    api.trouble = unreachable
    reason(lambda: deploy(TWO))
    sentence = f"cannot tell whether {ONE}, the live version, serves: ready, but the API server"
    assert any(line.startswith(sentence) for line in heard.warned)


def test_records_of_an_earlier_service_of_that_name_are_ignored(api: ApiServer, deploy: Deploy, make: Make) -> None:
    """The garbage collector runs a moment after --delete."""
    deploy(ONE)
    record = copy.deepcopy(api.objects[RECORDS])
    make().delete()
    api.objects[RECORDS] = record
    api.scripts[TWO] = [BROKEN]
    assert "there is no earlier version to go back to" in reason(lambda: deploy(TWO))
    deploy(THREE)
    assert uris(api) == [THREE]


def test_two_machines_can_write_the_first_record_without_losing_one(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    record = api.objects.pop(RECORDS)

    def meanwhile(call: Call) -> None:
        if call.is_record and RECORDS not in api.objects:
            api.objects[RECORDS] = record

    api.trouble = meanwhile
    deploy(TWO)
    assert uris(api) == [TWO, ONE]


def test_the_image_with_which_somebody_elses_version_answered_has_to_be_known(
    api: ApiServer, deploy: Deploy, overlays: Path
) -> None:
    deploy(ONE, "stock-runtime")
    del api.objects[RECORDS]
    api.service["metadata"]["managedFields"][0]["manager"] = "kubectl"
    api.service["metadata"]["managedFields"][0]["fieldsV1"] = {}
    api.objects.pop(("servingruntimes", "alexnet-torchserve"), None)  # the cluster's own
    api.scripts[TWO] = [BROKEN]
    assert "there is no earlier version to go back to" in reason(lambda: deploy(TWO))


def test_only_the_runtime_that_the_service_names_tells_its_image(
    api: ApiServer, deploy: Deploy, overlays: Path
) -> None:
    manifests = overlays / "stock-runtime" / "manifests.yaml"
    manifests.write_text(manifests.read_text().replace("runtime: alexnet-torchserve", "runtime: kserve-torchserve"))
    deploy(ONE)
    deploy(TWO, "stock-runtime")
    del api.objects[RECORDS]
    api.scripts[THREE] = [BROKEN]
    assert reason(lambda: deploy(THREE, "stock-runtime")).endswith(back_to(TWO))


def test_a_record_has_as_many_versions_as_fit(api: ApiServer, deploy: Deploy, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    large = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: large\ndata:\n  text: {'x' * 500_000}\n"
    manifests.write_text(f"{manifests.read_text().rstrip()}\n---\n{large}")
    deploy(ONE)
    deploy(TWO)
    assert uris(api) == [TWO]


def test_one_entry_of_another_form_does_not_spoil_the_others(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    known = records(api)[0]
    told = [known | {"of a later release": 1}, {"deployed": "x"}, known | {"storage_uri": THREE}]
    api.objects[RECORDS]["data"]["deployments.json"] = json.dumps(told)
    deploy(TWO)
    assert uris(api) == [TWO, ONE, THREE]


def _as_an_older_release_left_it(api: ApiServer) -> None:
    api.objects.pop(RECORDS, None)
    remembered = {
        "torchserve-alexnet/previous-storage-uri": ONE,
        "torchserve-alexnet/previous-image": "registry.example/alexnet:0",
    }
    api.service["metadata"]["annotations"] |= remembered


def _with_uri(uri: str) -> Object:
    return {"metadata": {"name": "alexnet"}, "spec": {"predictor": {"model": {"storageUri": uri}}}}
