"""Waiting until a version serves: the progress lines, which failures end it, and with which reason."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.objects import Object
from pipeline.deployment.pace import Pace
from pipeline.deployment.trouble import find_trouble
from tests.support.api_server import (
    DOWNLOADING,
    LOADING,
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
from tests.support.deployments import BROKEN, CRASHED, ONE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]


def test_progress_is_shown_down_to_the_download(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    api.scripts[ONE] = [Moment(has_deployment=False, has_pod=False), PENDING, DOWNLOADING, DOWNLOADING, LOADING, READY]
    deploy(ONE)
    assert list(dict.fromkeys(heard.waited)) == [
        "waiting for KServe to create the Deployment",
        "0 of 1 pods ready; alexnet-predictor-new: being scheduled",
        "0 of 1 pods ready; alexnet-predictor-new: downloading the model",
        "0 of 1 pods ready; alexnet-predictor-new: loading the model",
        "ready",
        "asking the model",
    ]


def test_a_service_that_is_ready_only_with_old_pods_is_waited_for(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    still_old = Moment(ready=True, has_deployment=False, has_pod=False)
    mixed = Moment(LOADING.pod, {"replicas": 2}, ready=True)
    unseen = Moment(READY.pod, {"observedGeneration": 1}, ready=True)
    api.scripts[TWO] = [still_old, still_old, mixed, unseen, READY]
    deploy(ONE)
    heard.waited.clear()
    deploy(TWO)
    assert heard.waited.index("ready") == 4


def test_it_waits_for_the_autoscalers_minimum_of_replicas(
    api: ApiServer, deploy: Deploy, overlays: Path, heard: Heard
) -> None:
    """KServe leaves the number of replicas to it: the Deployment starts with one, which is ready before the others."""
    manifests = overlays / "standard" / "manifests.yaml"
    manifests.write_text(manifests.read_text().replace("minReplicas: 1", "minReplicas: 2"))
    one = Moment(READY.pod, ready=True, replicas=1)
    api.scripts[ONE] = [one, one, READY]
    deploy(ONE)
    assert heard.waited.index("ready") == 2
    assert heard.waited[0] == "1 of 2 pods ready"


STOPPED = {"type": "Stopped", "status": "False", "message": "nobody stopped it"}


def test_the_condition_stopped_is_not_waited_for(api: ApiServer, deploy: Deploy, make: Make, heard: Heard) -> None:
    routes = {"type": "IngressReady", "status": "False"}
    unready = Moment(READY.pod, conditions=[routes, STOPPED])
    api.scripts[ONE] = [Moment(READY.pod, conditions=[STOPPED]), unready, READY]
    deploy(ONE)
    assert heard.waited[:2] == [
        "1 of 1 pods ready; waiting for the old pods to end",
        "1 of 1 pods ready; waiting for IngressReady",
    ]
    api.scripts[TWO] = [Moment(conditions=[STOPPED], has_deployment=False, has_pod=False)]
    failed = reason(lambda: make(Pace(timeout=0.05, poll=0.001)).deploy(TWO))
    assert failed.startswith("not ready within 0.05 s: waiting for KServe to create the Deployment; ")


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
        "kserve-container of alexnet-predictor-new exited with status 1 (CrashLoopBackOff), restarted 3 times",
    ),
    "out of memory": (
        running(restartCount=3, state={"running": {}}, lastState={"terminated": {"reason": "OOMKilled"}}),
        "kserve-container of alexnet-predictor-new ran out of memory (OOMKilled), restarted 3 times",
    ),
    "download": (
        initializing(restartCount=3, state={"terminated": CRASHED}),
        "storage-initializer of alexnet-predictor-new could not fetch the model, restarted 3 times",
    ),
    "no quota": (
        Moment(
            {},
            {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: cpu"}]},
            has_pod=False,
        ),
        "no pod can be created: exceeded quota: cpu",
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
def test_a_lasting_failure_ends_the_wait_with_its_reason(name: str, api: ApiServer, deploy: Deploy) -> None:
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
def test_the_last_log_lines_of_a_failed_container_are_shown(
    moment: Moment, container: str, previous: str, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.log = [f"line {number}" for number in range(30)]
    api.scripts[ONE] = [moment]
    reason(lambda: deploy(ONE))
    assert [line for line in heard.warned if "line" in line] == [f"{container}: line {n}" for n in range(20, 30)]
    (asked,) = [call.query for call in api.calls if call.path.endswith("/pods/alexnet-predictor-new/log")]
    assert (asked["container"], asked["previous"]) == (container, previous)


def test_a_success_after_one_failure_is_no_failure(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    done = {"exitCode": 0, "reason": "Completed"}
    initialized = initializing(restartCount=4, state={"terminated": done}, lastState={"terminated": CRASHED})
    api.scripts[ONE] = [initialized, initialized, READY]
    assert deploy(ONE) == URL
    assert not any("could not" in line for line in heard.waited)


def test_a_failure_with_changing_wording_still_ends_the_wait(api: ApiServer, deploy: Deploy) -> None:
    def failing(number: int) -> Moment:
        said = f'pods "alexnet-predictor-{number}" is forbidden: exceeded quota'
        condition = {"type": "ReplicaFailure", "status": "True", "message": said}
        return Moment({}, {"conditions": [condition]}, has_pod=False)

    api.scripts[ONE] = [failing(number) for number in range(10_000)]
    assert "exceeded quota" in reason(lambda: deploy(ONE))


def test_if_credentials_expire_while_waiting_the_message_names_the_state(api: ApiServer, deploy: Deploy) -> None:
    api.scripts[ONE] = [LOADING]
    api.refuse(401, "Unauthorized", lambda call: call.path.endswith("/pods"))
    failed = reason(lambda: deploy(ONE))
    assert failed.startswith("the cluster does not accept your credentials")
    assert f"apply InferenceService alexnet with {ONE}; run this again to follow it" in failed


def test_it_keeps_waiting_through_a_temporary_failure(api: ApiServer, deploy: Deploy) -> None:
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
        (LOADING, "0 of 1 pods ready; alexnet-predictor-new: loading the model"),
    ],
    ids=["unschedulable", "event", "slow"],
)
def test_a_version_that_is_never_ready_fails_at_the_timeout_with_what_is_known(
    moment: Moment, sentence: str, api: ApiServer, make: Make
) -> None:
    mount = {"reason": "FailedMount", "message": "no such secret", "lastTimestamp": "2026-01-01T00:00:00Z"}
    api.events = [mount | {"type": "Warning", "involvedObject": {"kind": "Pod", "name": "alexnet-predictor-new"}}]
    api.scripts[ONE] = [moment]
    pace = Pace(timeout=0.05, poll=0.001)
    assert reason(lambda: make(pace).deploy(ONE)).startswith(f"not ready within 0.05 s: {sentence}; ")


# --- A node that must be created first --------------------------------------------------------------------------------

NO_NODE = Moment({"conditions": [UNSCHEDULABLE]})
MADE = "pod triggered scale-up: [{https://www.googleapis.com/compute/v1/…/gke-alexnet-serving-grp 0->1 (max: 9)}]"
SOLD_OUT = (
    "Node scale up in zones europe-west4-b associated with this pod failed: GCE out of resources. Pod is at risk of"
)
NOWHERE = "pod didn't trigger scale-up: 2 node(s) didn't match Pod's node affinity/selector"


def scaling(reason: str, message: str, when: str = "00:00", pod: str = "alexnet-predictor-new") -> Object:
    """As the cluster autoscaler and GKE write them; only the second one is a warning."""
    kind = "Warning" if reason == "FailedScaleUp" else "Normal"
    about = {"involvedObject": {"kind": "Pod", "name": pod}, "lastTimestamp": f"2026-01-01T00:{when}Z"}
    return {"type": kind, "reason": reason, "message": message} | about


def test_waiting_for_a_new_node_does_not_count_against_the_version(api: ApiServer, make: Make, heard: Heard) -> None:
    api.events = [scaling("TriggeredScaleUp", MADE)]
    api.scripts[ONE] = [*[NO_NODE] * 100, READY]  # 0.1 s at least
    assert make(Pace(timeout=0.05, poll=0.001)).deploy(ONE) == URL
    assert "alexnet-predictor-new is waiting for a node, which is being created" in heard.waited


def test_a_node_that_never_appears_ends_the_wait(api: ApiServer, make: Make) -> None:
    api.events = [scaling("TriggeredScaleUp", MADE)]
    api.scripts[ONE] = [NO_NODE]
    failed = reason(lambda: make(Pace(timeout=0.05, node=0.05, poll=0.001)).deploy(ONE))
    assert failed.startswith(
        "not ready within 0.05 s, plus 0.05 s for a node: alexnet-predictor-new is waiting for a node, which is being "
        "created; "
    )


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (
            [scaling("FailedScaleUp", SOLD_OUT, "01:00"), scaling("TriggeredScaleUp", MADE)],
            f"FailedScaleUp: {SOLD_OUT}",
        ),
        ([scaling("NotTriggerScaleUp", NOWHERE)], f"NotTriggerScaleUp: {NOWHERE}"),
        ([scaling("TriggeredScaleUp", MADE, pod="another")], "0/3 nodes fit"),
        ([scaling("Scheduled", "of another controller")], "0/3 nodes fit"),
    ],
    ids=["sold out", "fits nowhere", "of another pod", "of another kind"],
)
def test_if_no_node_is_being_created_the_time_counts_and_the_autoscaler_says_why(
    events: list[Object], why: str, api: ApiServer, make: Make
) -> None:
    api.events = events
    api.scripts[ONE] = [NO_NODE]
    failed = reason(lambda: make(Pace(timeout=0.05, poll=0.001)).deploy(ONE))
    assert failed.startswith(f"not ready within 0.05 s: alexnet-predictor-new cannot be scheduled: {why}; ")


def test_it_waits_for_a_second_node_after_the_first_failed(api: ApiServer, make: Make) -> None:
    """GKE tries another pool, or the same one again after some minutes."""
    again = scaling("TriggeredScaleUp", MADE, "06:00")
    api.events = [again, scaling("FailedScaleUp", SOLD_OUT, "01:00"), scaling("TriggeredScaleUp", MADE)]
    api.scripts[ONE] = [*[NO_NODE] * 100, READY]
    assert make(Pace(timeout=0.05, poll=0.001)).deploy(ONE) == URL


def test_a_failing_pod_is_reported_before_one_that_waits_for_a_node(api: ApiServer, heard: Heard) -> None:
    api.events = [scaling("TriggeredScaleUp", MADE)]
    waiting = {"metadata": {"name": "alexnet-predictor-new"}, "status": NO_NODE.pod}
    crashing = {"metadata": {"name": "alexnet-predictor-two"}, "status": BROKEN.pod}
    with closing(Cluster()) as cluster:
        trouble = find_trouble(cluster, {}, [], [waiting, crashing], patience=60)
        first = find_trouble(cluster, {}, [], [waiting], patience=60)
    assert trouble
    assert "kserve-container of alexnet-predictor-two exited with status 1" in trouble.reason
    assert first
    assert first.awaits_node


# --- What KServe reports only in Events -------------------------------------------------------------------------------

NOTHING_MADE = Moment(has_deployment=False, has_pod=False)
NO_KNATIVE = "It is not possible to use Knative deployment mode when Knative Services are not available"


def warning(reason: str = "ServerlessModeRejected", message: str = NO_KNATIVE, **fields: Any) -> Object:
    """As KServe's controller writes it: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/"""
    about = {"kind": "InferenceService", "name": "alexnet"}
    times = {"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "eventTime": None}
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": about} | times | fields


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"lastTimestamp": None, "eventTime": "2026-01-01T00:00:00.250000Z"},
        {"lastTimestamp": "2026-01-01T00:07:00Z", "firstTimestamp": "2025-12-31T23:00:00Z", "count": 12},
        {
            "lastTimestamp": None,
            "eventTime": "2025-12-31T23:00:00.250000Z",
            "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:01.500000Z"},
        },
    ],
    ids=["once", "of the newer kind", "again", "again, of the newer kind"],
)
def test_a_failure_reported_only_in_an_event_ends_the_wait(told: Object, api: ApiServer, deploy: Deploy) -> None:
    api.events = [warning(**told)]
    api.scripts[ONE] = [NOTHING_MADE]
    assert reason(lambda: deploy(ONE)).startswith(f"KServe warns: ServerlessModeRejected: {NO_KNATIVE}; ")


def test_the_last_warning_counts(api: ApiServer, deploy: Deploy) -> None:
    api.events = [
        warning("InternalError", "the last", lastTimestamp="2026-01-01T00:00:09Z"),
        warning("InternalError", "the first", lastTimestamp="2026-01-01T00:00:03Z"),
    ]
    api.scripts[ONE] = [NOTHING_MADE]
    assert reason(lambda: deploy(ONE)).startswith("KServe warns: InternalError: the last; ")


@pytest.mark.parametrize(
    "event",
    [
        warning(lastTimestamp="2025-12-31T23:59:59Z"),
        warning(involvedObject={"kind": "InferenceService", "name": "alexnet", "uid": "of one that was deleted"}),
        warning(involvedObject={"kind": "InferenceService", "name": "cats"}),
        warning(involvedObject={"kind": "Service", "name": "alexnet"}),
        warning(type="Normal"),
        warning("VirtualServiceCRDNotFound", "Istio VirtualService CRD not present; reconciliation skipped."),
        warning("InferenceServiceNotReady", "InferenceService [alexnet] is no longer Ready because of: PredictorReady"),
        warning("UpdateFailed", 'Operation cannot be fulfilled on "alexnet": the object has been modified; please'),
    ],
    ids=[
        "before it was applied",
        "of another of its name",
        "of another service",
        "of another kind",
        "no warning",
        "without Istio",
        "no longer ready",
        "tried again at once",
    ],
)
def test_warnings_about_other_versions_or_that_pass_at_once_are_ignored(
    event: Object, api: ApiServer, make: Make
) -> None:
    api.events = [event]
    api.scripts[ONE] = [NOTHING_MADE]
    failed = reason(lambda: make(Pace(timeout=0.05, poll=0.001, patience=0.001)).deploy(ONE))
    assert failed.startswith("not ready within 0.05 s: waiting for KServe to create the Deployment; ")


def test_a_warning_that_has_passed_is_ignored(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    api.events = [warning("InternalError", "failed calling webhook")]
    api.scripts[ONE] = [NOTHING_MADE, NOTHING_MADE, PENDING, *[LOADING] * 100, READY]
    assert deploy(ONE) == URL
    assert "KServe warns: InternalError: failed calling webhook" in heard.waited


def test_if_the_pods_are_ready_but_the_service_is_not_the_warning_says_why(api: ApiServer, make: Make) -> None:
    api.events = [warning("InternalError", "fails to reconcile component: no matches for kind ScaledObject")]
    api.scripts[ONE] = [Moment(READY.pod)]
    failed = reason(lambda: make(Pace(timeout=0.05, poll=0.001, patience=0.001)).deploy(ONE))
    assert failed.startswith("not ready within 0.05 s: KServe warns: InternalError: fails to reconcile component: no ")


def test_a_busy_api_server_is_asked_again(api: ApiServer, deploy: Deploy) -> None:
    looks = iter(range(10))

    def is_look(call: Call) -> bool:
        return call.path.endswith("/pods") and next(looks, 10) < 3

    api.refuse(503, "etcd is electing a leader", is_look)
    assert deploy(ONE) == URL


def test_another_deployment_in_the_meantime_is_noticed(api: ApiServer, deploy: Deploy) -> None:
    def interfere(call: Call) -> None:
        if call.path.endswith("/pods"):
            api.service["metadata"]["annotations"]["torchserve-alexnet/deployed"] = "other"

    api.scripts[ONE] = [LOADING]
    api.trouble = interfere
    assert "somebody else deployed alexnet in the meantime" in reason(lambda: deploy(ONE))


def test_a_temporary_error_of_the_api_server_does_not_end_the_wait(api: ApiServer, deploy: Deploy) -> None:
    left = iter(range(2))

    def change_leader(call: Call) -> None:
        if call.path.endswith("/pods") and next(left, None) is not None:
            raise Status(500, "etcdserver: leader changed")

    api.trouble = change_leader
    assert deploy(ONE) == URL
