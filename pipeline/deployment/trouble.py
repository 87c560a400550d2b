"""What keeps a new version from becoming ready, and how long to wait for that to pass."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.events import MAKES_A_NODE, scaling_of, sentence_of, warnings_of, warnings_since_applied
from pipeline.deployment.objects import Object, conditions_of, is_ready, lacking, name_of
from pipeline.deployment.pods import INITIALIZER, Container, containers_of, init_containers_of
from pipeline.shared.text import one_line

CRASHES = 3  # after this many it will not recover

CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
NEVER_PULLS = ("InvalidImageName", "ErrImageNeverPull")
CANNOT_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")

# KServe works without what the first one misses, and the second one only repeats other conditions. It retries at once
# after a conflicting change. All its warnings are in https://github.com/kserve/kserve/blob/v0.20.0/pkg/controller/
# v1beta1/inferenceservice/controller.go; versions from 0.15 on have no others.
HARMLESS = ("VirtualServiceCRDNotFound", "InferenceServiceNotReady")
PASSING = "the object has been modified"


@dataclass(frozen=True)
class Trouble:
    """`patience`: how long it has to last before it counts, in seconds; None: until the time-out.

    `kind`: troubles of the same kind are one: Kubernetes alternates between several wordings of a failing pull.
    """

    reason: str
    patience: float | None = None
    kind: str = ""
    pod: str = ""
    container: str = ""
    previous: bool = False  # the previous run failed, not this one
    awaits_node: bool = False  # nothing is wrong: a node is being made

    def is_same_as(self, other: Trouble | None) -> bool:
        return other is not None and (self.kind or self.reason) == (other.kind or other.reason)


def find_trouble(
    cluster: Cluster, service: Object, deployments: list[Object], pods: list[Object], patience: float
) -> Trouble | None:
    """The most specific trouble: a pod's own, or else the Deployments', or else the InferenceService's, of which some
    is only in Events.

    deployments, pods: of the new version. patience: with failures that may be temporary, in seconds.
    """
    troubles = [trouble for pod in pods if (trouble := _of_pod(cluster, pod, patience))]
    if troubles:
        return min(troubles, key=lambda trouble: trouble.awaits_node)
    for deployment in deployments:
        for condition in conditions_of(deployment):
            if condition.type == "ReplicaFailure" and condition.status == "True":
                # Its message contains a pod's name, a different one each time.
                return Trouble(f"no pod can be created: {one_line(condition.message)}", patience, kind="no pod")
    return (
        _of_specification(service, patience)
        or _of_events(cluster, service, deployments, pods, patience)
        or _of_conditions(service, bool(deployments))
    )


def _of_pod(cluster: Cluster, pod: Object, patience: float) -> Trouble | None:
    name = name_of(pod)
    for condition in conditions_of(pod):
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return _of_scheduling(cluster, name, one_line(condition.message))
    containers = containers_of(pod)
    for container in (*init_containers_of(pod), *containers):
        if trouble := _of_image(name, container, patience) or _of_run(name, container):
            return trouble
    is_waiting = pod.get("status", {}).get("phase") == "Pending" and not containers
    if is_waiting and (warnings := warnings_of(cluster, "Pod", name)):  # for example, a missing volume
        return Trouble(f"{name}: {sentence_of(warnings[-1])}", kind=f"warning {warnings[-1].get('reason')}")
    return None


def _of_scheduling(cluster: Cluster, pod: str, said: str) -> Trouble:
    """A pod for which no node has room: an autoscaler's Event says more than the scheduler's."""
    scaling = scaling_of(cluster, pod)
    if scaling and scaling.get("reason") == MAKES_A_NODE:
        return Trouble(f"{pod} is waiting for a node, which is being created", kind="awaits a node", awaits_node=True)
    why = sentence_of(scaling) if scaling else said
    return Trouble(f"{pod} cannot be scheduled: {why}", kind="unschedulable")


def _of_image(pod: str, container: Container, patience: float) -> Trouble | None:
    """A container that cannot be created from its image."""
    reason, said = container.waits_for, one_line(container.message)
    if reason in CANNOT_PULL:
        return Trouble(
            f"{container.name} of {pod}: the image cannot be pulled, {said or reason}: give another --image",
            0 if reason in NEVER_PULLS else patience,
            kind=f"image of {container.name}",
        )
    if reason in CANNOT_START:
        return Trouble(f"{container.name} of {pod}: {reason}: {said}", patience, kind=f"start of {container.name}")
    return None


def _of_run(pod: str, container: Container) -> Trouble | None:
    """A container that failed, and has not recovered since."""
    ended = container.ended or container.ended_before
    if ended is None or (container.ended and container.ended.exit_code == 0):
        return None
    if container.is_running and container.restarts < CRASHES:
        return None  # it may succeed this time
    if container.name == INITIALIZER:
        what = "could not fetch the model"
    elif ended.reason == "OOMKilled":
        what = "ran out of memory (OOMKilled)"
    else:
        what = f"exited with status {ended.exit_code}"
    loop = " (CrashLoopBackOff)" if container.waits_for == "CrashLoopBackOff" else ""
    restarts = {0: "", 1: ", restarted once"}.get(container.restarts, f", restarted {container.restarts} times")
    return Trouble(
        f"{container.name} of {pod} {what}{loop}{restarts}",
        patience=0 if container.restarts >= CRASHES else None,
        kind=f"{container.name} {what}",
        pod=pod,
        container=container.name,
        previous=container.ended is None,
    )


def _of_specification(service: Object, patience: float) -> Trouble | None:
    model = service.get("status", {}).get("modelStatus", {})
    if model.get("transitionStatus") != "InvalidSpec":
        return None
    said = model.get("lastFailureInfo", {}).get("message") or "invalid specification"
    return Trouble(f"KServe does not accept the InferenceService: {one_line(said)}", patience)


def _of_events(
    cluster: Cluster, service: Object, deployments: list[Object], pods: list[Object], patience: float
) -> Trouble | None:
    """Why KServe creates no Deployment; or why the service is not ready although its pods are, which may pass."""
    if deployments and (is_ready(service) or not all(map(is_ready, pods))):
        return None  # it exists, and is making progress
    for event in reversed(warnings_since_applied(cluster, service)):
        if event.get("reason") not in HARMLESS and PASSING not in str(event.get("message")):
            said = f"KServe warns: {sentence_of(event)}"
            return Trouble(said, None if deployments else patience, kind=f"warning {event.get('reason')}")
    return None


def _of_conditions(service: Object, has_deployment: bool) -> Trouble | None:
    if has_deployment:
        return None  # its pods say more
    for condition in lacking(service):
        if condition.status == "False" and condition.message:
            return Trouble(f"{condition.type} is false: {one_line(condition.message)}")
    return None
