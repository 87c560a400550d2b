"""A deployment, against an API server of our own: what is applied and in which order, and the way back."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment, Voice
from pipeline.deployment.manifests import overlay_names
from pipeline.deployment.rollout import Pace
from pipeline.shared.errors import PipelineError
from tests.support.api_server import (
    AT_ONCE,
    DOWNLOADING,
    LOADING,
    MANAGER,
    PENDING,
    READY,
    URL,
    ApiServer,
    Call,
    Moment,
    Status,
    initializing,
    running,
)

pytest_plugins = ["tests.support.api_server"]

FAST = Pace(timeout=30, poll=0.001, patience=0.03, smoke=0.01)
ONE, TWO, THREE = (f"pvc://models/{number}" for number in ("one", "two", "three"))

OVERLAYS = overlay_names(Path(__file__).resolve().parents[3] / "kserve" / "overlays")

CRASHED = {"exitCode": 1, "reason": "Error"}
BROKEN = running(restartCount=3, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": CRASHED})


class Heard:
    """What a deployment said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.waited: list[str] = []

    @property
    def voice(self) -> Voice:
        return Voice(self.said.append, self.warned.append, self.waited.append)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make(api: ApiServer, overlays: Path, heard: Heard) -> Iterator[Callable[..., Deployment]]:
    """A deployment of the current kube context, as another process would have it."""
    with closing(Cluster()) as cluster:
        yield lambda pace=FAST: Deployment(cluster, overlays, heard.voice, pace)


@pytest.fixture
def deploy(make: Callable[..., Deployment]) -> Callable[..., str]:
    return lambda uri, *arguments, **options: make().deploy(uri, *arguments, **options)


Deploy = Callable[..., str]
Make = Callable[..., Deployment]


def reason(attempt: Callable[[], Any]) -> str:
    with pytest.raises(PipelineError) as raised:
        attempt()
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- Applying ---------------------------------------------------------------------------------------------------------


def test_it_applies_all_of_the_overlay_the_service_last(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    assert deploy(ONE) == URL
    assert api.applied == ["ServiceAccount", "ServingRuntime", "InferenceService"]
    assert api.storage_uri == ONE
    assert all(found["metadata"]["namespace"] == "models" for found in api.objects.values())
    assert [line.split()[0] for line in heard.said] == ["cluster", "KServe", "permissions", "applied", "predicted"]
    assert heard.warned == [f"{ONE} is not in Cloud Storage, so what lies there was not checked"]


def test_the_image_is_the_one_of_the_overlay_or_the_one_given(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    assert api.image == "registry.example/alexnet:1"
    deploy(ONE, image="registry.example/alexnet:2")
    assert api.image == "registry.example/alexnet:2"


def test_an_image_has_no_place_in_an_overlay_without_a_runtime(api: ApiServer, deploy: Deploy) -> None:
    assert "leave --image out" in reason(lambda: deploy(ONE, "stock-runtime", image="registry.example/alexnet:2"))
    assert deploy(ONE, "stock-runtime") == URL
    assert api.applied == ["ServiceAccount", "InferenceService"]


def test_the_checkout_is_not_edited(api: ApiServer, deploy: Deploy, overlays: Path) -> None:
    before = {file: file.read_bytes() for file in overlays.rglob("*.yaml")}
    deploy(ONE, image="registry.example/alexnet:2")
    assert {file: file.read_bytes() for file in overlays.rglob("*.yaml")} == before


def test_the_same_again_changes_nothing(api: ApiServer, deploy: Deploy) -> None:
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


def test_a_field_that_somebody_else_set_is_named_and_nothing_is_changed(api: ApiServer, deploy: Deploy) -> None:
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


# --- Waiting ----------------------------------------------------------------------------------------------------------


def test_progress_is_told_down_to_the_download(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    api.scripts[ONE] = [Moment(has_deployment=False, has_pod=False), PENDING, DOWNLOADING, DOWNLOADING, LOADING, READY]
    deploy(ONE)
    assert list(dict.fromkeys(heard.waited)) == [
        "waiting for KServe to make the Deployment",
        "0 of 1 pods ready; alexnet-predictor-new: being scheduled",
        "0 of 1 pods ready; alexnet-predictor-new: downloading the model",
        "0 of 1 pods ready; alexnet-predictor-new: the model is being loaded",
        "ready",
        "asking the model",
    ]


def test_a_service_that_is_ready_with_the_old_pods_is_waited_for(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    still_old = Moment(ready=True, has_deployment=False, has_pod=False)
    mixed = Moment(LOADING.pod, {"replicas": 2}, ready=True)
    unseen = Moment(READY.pod, {"observedGeneration": 1}, ready=True)
    api.scripts[TWO] = [still_old, still_old, mixed, unseen, READY]
    deploy(ONE)
    heard.waited.clear()
    deploy(TWO)
    assert heard.waited.index("ready") == 4


PULL = "Back-off pulling image: not found"
FAILURES = {
    "image that cannot be pulled": (
        running(state={"waiting": {"reason": "ImagePullBackOff", "message": PULL}}),
        f"kserve-container of alexnet-predictor-new: the image cannot be pulled, {PULL}: give another --image",
    ),
    "image that is no image": (
        running(state={"waiting": {"reason": "InvalidImageName", "message": "bad"}}),
        "kserve-container of alexnet-predictor-new: the image cannot be pulled, bad: give another --image",
    ),
    "crash loop": (
        BROKEN,
        "kserve-container of alexnet-predictor-new ends with status 1 (CrashLoopBackOff), 3 times again",
    ),
    "out of memory": (
        running(restartCount=3, state={"running": {}}, lastState={"terminated": {"reason": "OOMKilled"}}),
        "kserve-container of alexnet-predictor-new was killed for its memory (OOMKilled), 3 times again",
    ),
    "download": (
        initializing(restartCount=3, state={"terminated": CRASHED}),
        "storage-initializer of alexnet-predictor-new could not bring the model, 3 times again",
    ),
    "no quota": (
        Moment(
            {},
            {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: cpu"}]},
            has_pod=False,
        ),
        "no pod can be made: exceeded quota: cpu",
    ),
    "runtime that is not there": (
        Moment(
            model={"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": "no runtime"}},
            has_deployment=False,
            has_pod=False,
        ),
        "KServe does not accept the InferenceService: no runtime",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_does_not_mend_ends_the_wait_with_its_reason(name: str, api: ApiServer, deploy: Deploy) -> None:
    moment, sentence = FAILURES[name]
    api.scripts[ONE] = [PENDING, moment]
    assert reason(lambda: deploy(ONE)).startswith(f"{sentence}; ")


@pytest.mark.parametrize(
    ("moment", "container", "previous"),
    [
        (BROKEN, "kserve-container", "true"),
        (initializing(restartCount=3, state={"terminated": CRASHED}), "storage-initializer", "false"),
    ],
    ids=["crash", "download"],
)
def test_the_last_words_of_what_failed_are_shown(
    moment: Moment, container: str, previous: str, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.log = [f"line {number}" for number in range(30)]
    api.scripts[ONE] = [moment]
    reason(lambda: deploy(ONE))
    assert [line for line in heard.warned if "line" in line] == [f"{container}: line {n}" for n in range(20, 30)]
    (asked,) = [call.query for call in api.calls if call.path.endswith("/pods/alexnet-predictor-new/log")]
    assert (asked["container"], asked["previous"]) == (container, previous)


def test_what_ended_well_after_failing_once_is_no_failure(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    done = {"exitCode": 0, "reason": "Completed"}
    initialized = initializing(restartCount=4, state={"terminated": done}, lastState={"terminated": CRASHED})
    api.scripts[ONE] = [initialized, initialized, READY]
    assert deploy(ONE) == URL
    assert not any("could not" in line for line in heard.waited)


def test_a_failure_that_words_itself_anew_each_time_ends_the_wait_all_the_same(api: ApiServer, deploy: Deploy) -> None:
    def failing(number: int) -> Moment:
        said = f'pods "alexnet-predictor-{number}" is forbidden: exceeded quota'
        condition = {"type": "ReplicaFailure", "status": "True", "message": said}
        return Moment({}, {"conditions": [condition]}, has_pod=False)

    api.scripts[ONE] = [failing(number) for number in range(10_000)]
    assert "exceeded quota" in reason(lambda: deploy(ONE))


def test_credentials_that_expire_meanwhile_leave_a_state_that_is_named(api: ApiServer, deploy: Deploy) -> None:
    api.scripts[ONE] = [LOADING]
    api.refuse(401, "Unauthorized", lambda call: call.path.endswith("/pods"))
    failed = reason(lambda: deploy(ONE))
    assert failed.startswith("the cluster does not accept your credentials")
    assert f"apply InferenceService alexnet with {ONE}; run this again to follow it" in failed


def test_a_failure_that_mends_is_waited_through(api: ApiServer, deploy: Deploy) -> None:
    once = running(restartCount=1, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": CRASHED})
    pull = running(state={"waiting": {"reason": "ErrImagePull", "message": "slow registry"}})
    api.scripts[ONE] = [pull, once, once, LOADING, READY]
    assert deploy(ONE) == URL


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes\nfit"}


@pytest.mark.parametrize(
    ("moment", "sentence"),
    [
        (Moment({"conditions": [UNSCHEDULABLE]}), "alexnet-predictor-new cannot be scheduled: 0/3 nodes fit"),
        (PENDING, "alexnet-predictor-new: FailedMount: no such secret"),
        (LOADING, "0 of 1 pods ready; alexnet-predictor-new: the model is being loaded"),
    ],
    ids=["unschedulable", "event", "slow"],
)
def test_what_is_never_ready_ends_at_the_timeout_with_what_is_known(
    moment: Moment, sentence: str, api: ApiServer, make: Make
) -> None:
    api.events = [{"reason": "FailedMount", "message": "no such secret", "lastTimestamp": "2026-01-01T00:00:00Z"}]
    api.scripts[ONE] = [moment]
    pace = Pace(timeout=0.05, poll=0.001)
    assert reason(lambda: make(pace).deploy(ONE)).startswith(f"not ready within 0.05 s: {sentence}; ")


def test_an_api_server_that_is_busy_for_a_moment_is_asked_again(api: ApiServer, deploy: Deploy) -> None:
    looks = iter(range(10))

    def is_look(call: Any) -> bool:
        return call.path.endswith("/pods") and next(looks, 10) < 3

    api.refuse(503, "etcd is electing a leader", is_look)
    assert deploy(ONE) == URL


def test_a_deployment_of_somebody_else_meanwhile_is_noticed(api: ApiServer, deploy: Deploy) -> None:
    def interfere(call: Any) -> None:
        if call.path.endswith("/pods"):
            api.service["metadata"]["annotations"]["torchserve-alexnet/deployed"] = "other"

    api.scripts[ONE] = [LOADING]
    api.trouble = interfere
    assert "somebody else deployed alexnet meanwhile" in reason(lambda: deploy(ONE))


# --- One question -----------------------------------------------------------------------------------------------------

WRONG = {
    "error": (
        (500, {"error": "out of memory"}),
        "ready, but the model does not answer a prediction (500: out of memory)",
    ),
    "busy": ((503, {"error": "busy"}), "ready, but the model does not answer a prediction (503: busy)"),
    "another model": ((200, {"predictions": [[0.1]]}), "ready, but what answers is not this model"),
    "no JSON": ((200, "<html>"), "ready, but what answers is not this model"),
    "no classes": ((200, {"predictions": [{"classes": []}]}), "ready, but what answers is not this model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_service_that_answers_wrongly_is_rolled_back(name: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.answers[TWO], sentence = WRONG[name]
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(sentence)
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uri == ONE


def test_a_model_that_is_silent_is_rolled_back(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    over = threading.Event()

    def be_silent(call: Call) -> None:
        if "/proxy/" in call.path and api.storage_uri == TWO:
            over.wait(30)

    api.trouble = be_silent
    pace = dataclasses.replace(FAST, answer=(5, 0.2))
    failed = reason(lambda: make(pace).deploy(TWO))
    over.set()
    assert failed == (
        f"ready, but the model does not answer a prediction within 0.2 s; rolled back to {ONE}, which is ready again"
    )
    assert api.storage_uri == ONE


def test_a_passing_error_of_the_api_server_ends_no_wait(api: ApiServer, deploy: Deploy) -> None:
    left = iter(range(2))

    def change_leader(call: Call) -> None:
        if call.path.endswith("/pods") and next(left, None) is not None:
            raise Status(500, "etcdserver: leader changed")

    api.trouble = change_leader
    assert deploy(ONE) == URL


def test_a_service_that_only_the_api_server_cannot_reach_is_not_rolled_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    said = "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout"
    api.answers[TWO] = 503, {"kind": "Status", "message": said}
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(f"ready, but the API server cannot reach it ({said}): a NetworkPolicy")
    assert f"apply InferenceService alexnet with {TWO}" in failed
    assert api.storage_uri == TWO


def test_credentials_that_expire_before_the_question_do_not_roll_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.refuse(401, "Unauthorized", lambda call: "/proxy/" in call.path)
    assert reason(lambda: deploy(TWO)).startswith("the cluster does not accept your credentials")
    assert api.storage_uri == TWO


def test_another_overlay_that_fails_is_rolled_back_too(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    before = copy.deepcopy(api.service["spec"])
    api.scripts[TWO] = [BROKEN]
    assert reason(lambda: deploy(TWO, "stock-runtime")).endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.service["spec"] == before


def test_in_knative_mode_it_is_the_revision_that_is_asked(api: ApiServer, deploy: Deploy) -> None:
    api.mode = "Knative"
    assert deploy(ONE) == URL


# --- The way back -----------------------------------------------------------------------------------------------------


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


# --- Removing ---------------------------------------------------------------------------------------------------------


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
    assert heard.warned == ["ServiceAccount alexnet was not applied by this tool: it stays"]
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


def test_what_does_not_go_is_named_with_what_it_waits_for(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    api.finalized = False
    sentence = reason(lambda: make(Pace(timeout=0.02, poll=0.001)).delete())
    assert sentence.startswith("InferenceService alexnet is being deleted, but not gone within 0.02 s")
    assert "inferenceservice.finalizers" in sentence


def test_all_of_it_works_from_nothing_to_nothing_again(api: ApiServer, deploy: Deploy, make: Make) -> None:
    api.scripts[ONE] = AT_ONCE
    for _ in range(2):
        deploy(ONE)
        make().delete()
        assert api.objects == {}


@pytest.fixture
def guarded(overlays: Path) -> str:
    """An overlay with an object more than `standard` has."""
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


def test_delete_knows_what_a_deployment_had_that_was_rolled_back(
    api: ApiServer, deploy: Deploy, make: Make, guarded: str
) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    assert "rolled back" in reason(lambda: deploy(TWO, guarded))
    make().delete()
    assert api.objects == {}
