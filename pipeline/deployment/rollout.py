"""Waiting until a new version serves, and finding out why it does not.

A service can be ready with the pods it had before. Those of a new version are told by an annotation: KServe hands the
annotations of an InferenceService on to its Deployment and pods. (`status.observedGeneration` says nothing of it: in
Standard mode it is the Deployment's.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.deployment.cluster import DEPLOYMENTS, EVENTS, PODS, SERVICES, Cluster, Unreachable
from pipeline.shared.errors import PipelineError
from pipeline.shared.text import one_line

Object = dict[str, Any]

DEPLOYED = "torchserve-alexnet/deployed"  # the annotation: a fingerprint of what was applied
INITIALIZER = "storage-initializer"

CRASHES = 3  # so many, and it will not mend by itself
LOG_LINES = 10

CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
CANNOT_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True)
class Pace:
    """Of waiting, in seconds. `patience`: how long to see a failure that may mend, before it is believed."""

    timeout: float = 600
    poll: float = 1
    patience: float = 60
    smoke: float = 30
    answer: tuple[float, float] = (
        5,
        70,
    )  # to connect to the API server; for its proxy, which tries 30 s, and the model


class NotReady(PipelineError):
    """The new version does not serve. `logs`: what the container that failed said last."""

    def __init__(self, reason: str, logs: list[str]) -> None:
        super().__init__(reason)
        self.logs = logs


@dataclass(frozen=True)
class Trouble:
    """What keeps a version from being ready. `patience`: in seconds; None: until the time is over.

    `kind`: troubles that have the same are one: Kubernetes words a failing pull in several ways, by turns.
    """

    reason: str
    patience: float | None = None
    kind: str = ""
    pod: str = ""
    container: str = ""
    previous: bool = False  # it is the run before this one that failed


@dataclass(frozen=True)
class View:
    """One look at the service. `summary` is a line for the user."""

    ready: bool
    summary: str
    service: Object = field(default_factory=dict)
    trouble: Trouble | None = None


class Rollout:
    """fingerprint: of what was applied, as it is in the annotation. progress: called with a line, at every look."""

    def __init__(
        self, cluster: Cluster, name: str, fingerprint: str, pace: Pace, progress: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._fingerprint = fingerprint
        self._pace = pace
        self._progress = progress

    def wait(self) -> Object:
        """The InferenceService, once it serves the new version. Raises NotReady, or PipelineError where it is gone."""
        began = seen = time.monotonic()
        trouble: Trouble | None = None
        while True:
            now = time.monotonic()
            try:
                view = self._look()
            except Unreachable:
                if now - began > self._pace.timeout:
                    raise
                self._progress("the cluster does not answer, trying again")
                time.sleep(self._pace.poll)
                continue
            self._progress(view.summary)
            if view.ready:
                return view.service
            if view.trouble is None or trouble is None or _kind(view.trouble) != _kind(trouble):
                seen = now
            trouble = view.trouble
            if trouble and trouble.patience is not None and now - seen >= trouble.patience:
                raise NotReady(trouble.reason, self._logs(trouble))
            if now - began > self._pace.timeout:
                reason = trouble.reason if trouble else view.summary
                raise NotReady(
                    f"not ready within {self._pace.timeout:g} s: {reason}", self._logs(trouble) if trouble else []
                )
            time.sleep(self._pace.poll)

    def _logs(self, trouble: Trouble) -> list[str]:
        if not trouble.container:
            return []
        lines = self._cluster.logs(trouble.pod, trouble.container, trouble.previous, LOG_LINES)
        return [f"{trouble.container}: {line}" for line in lines]

    def _look(self) -> View:
        service = self._cluster.get(SERVICES, self._name)
        if service is None:
            raise PipelineError(f"the InferenceService {self._name} was deleted meanwhile: run this again")
        if service["metadata"].get("annotations", {}).get(DEPLOYED) != self._fingerprint:
            raise PipelineError(
                f"somebody else deployed {self._name} meanwhile, and what this run applied is no longer there: "
                "see that one end first"
            )
        selector = {"labelSelector": f"serving.kserve.io/inferenceservice={self._name}"}
        deployments = [found for found in self._cluster.find(DEPLOYMENTS, **selector) if self._is_new(found)]
        pods = [found for found in self._cluster.find(PODS, **selector) if self._is_new(found)]
        conditions = {found["type"]: found for found in service.get("status", {}).get("conditions", [])}
        is_ready = conditions.get("Ready", {}).get("status") == "True"
        if is_ready and deployments and all(_is_complete(found) for found in deployments):
            return View(True, "ready", service)
        trouble = self._trouble(service, deployments, pods)
        return View(False, trouble.reason if trouble else _summary(deployments, pods, conditions), service, trouble)

    def _is_new(self, found: Object) -> bool:
        """Of a Deployment it is the pods' annotation that counts; Knative's has it there too."""
        template = found.get("spec", {}).get("template", found)
        annotations = template.get("metadata", {}).get("annotations", {})
        is_going = "deletionTimestamp" in found["metadata"]
        return bool(annotations.get(DEPLOYED) == self._fingerprint and not is_going)

    def _trouble(self, service: Object, deployments: list[Object], pods: list[Object]) -> Trouble | None:
        for pod in pods:
            if trouble := self._pod_trouble(pod):
                return trouble
        for deployment in deployments:
            for condition in deployment.get("status", {}).get("conditions", []):
                if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                    said = one_line(condition["message"])  # with the name of a pod, another one each time
                    return Trouble(f"no pod can be made: {said}", self._pace.patience, kind="no pod")
        model = service.get("status", {}).get("modelStatus", {})
        if model.get("transitionStatus") == "InvalidSpec":
            said = model.get("lastFailureInfo", {}).get("message") or "invalid specification"
            return Trouble(f"KServe does not accept the InferenceService: {one_line(said)}", self._pace.patience)
        for condition in service.get("status", {}).get("conditions", []):
            said = condition.get("message")
            if condition["status"] == "False" and said and not deployments:  # with one, its pods say more
                return Trouble(f"{condition['type']} is false: {one_line(said)}")
        return None

    def _pod_trouble(self, pod: Object) -> Trouble | None:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return Trouble(f"{name} cannot be scheduled: {one_line(condition.get('message'))}")
        for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
            if trouble := self._container_trouble(name, container):
                return trouble
        is_waiting = status.get("phase") == "Pending" and not status.get("containerStatuses")
        if is_waiting and (said := self._warning(name)):
            return Trouble(f"{name}: {said}")
        return None

    def _container_trouble(self, pod: str, status: Object) -> Trouble | None:
        container, restarts = status["name"], status.get("restartCount", 0)
        waiting = status.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in CANNOT_PULL:
            patience = 0 if reason in ("InvalidImageName", "ErrImageNeverPull") else self._pace.patience
            said = one_line(waiting.get("message")) or reason
            return Trouble(
                f"{container} of {pod}: the image cannot be pulled, {said}: give another --image",
                patience,
                kind=f"image of {container}",
            )
        if reason in CANNOT_START:
            said = one_line(waiting.get("message"))
            return Trouble(f"{container} of {pod}: {reason}: {said}", self._pace.patience, kind=f"start of {container}")
        here = status.get("state", {}).get("terminated")
        ended = here or status.get("lastState", {}).get("terminated")
        if not ended or (here and here.get("exitCode") == 0):
            return None
        if "running" in status.get("state", {}) and restarts < CRASHES:
            return None  # it may do better this time
        how = (
            "was killed for its memory (OOMKilled)"
            if ended.get("reason") == "OOMKilled"
            else f"ends with status {ended.get('exitCode')}"
        )
        what = "could not bring the model" if container == INITIALIZER else how
        again = f", {restarts} times again" if restarts else ""
        hopeless = 0.0 if restarts >= CRASHES else None
        sort = " (CrashLoopBackOff)" if reason == "CrashLoopBackOff" else ""
        return Trouble(f"{container} of {pod} {what}{sort}{again}", hopeless, "", pod, container, here is None)

    def _warning(self, pod: str) -> str:
        """The last warning about a pod: a volume that is not there, for one."""
        events = self._cluster.find(EVENTS, fieldSelector=f"involvedObject.name={pod},type=Warning")
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return f"{events[-1].get('reason')}: {one_line(events[-1].get('message'))}" if events else ""


def _kind(trouble: Trouble) -> str:
    return trouble.kind or trouble.reason


def _is_complete(deployment: Object) -> bool:
    """All its pods are of the new version, and available; and none of the old one take requests."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3


def _summary(deployments: list[Object], pods: list[Object], conditions: dict[str, Object]) -> str:
    if not deployments:
        return "waiting for KServe to make the Deployment"
    wanted = sum(found["spec"].get("replicas", 1) for found in deployments)
    up = sum(_is_up(pod) for pod in pods)
    doing = [f"{pod['metadata']['name']}: {_doing(pod)}" for pod in pods if not _is_up(pod)]
    if up >= wanted and not doing:
        behind = [name for name, found in sorted(conditions.items()) if found["status"] != "True" and name != "Ready"]
        doing = [f"waiting for {', '.join(behind)}" if behind else "waiting for the pods before it to end"]
    return "; ".join((f"{up} of {wanted} pods ready", *doing))


def _is_up(pod: Object) -> bool:
    return any(
        found["type"] == "Ready" and found["status"] == "True" for found in pod.get("status", {}).get("conditions", [])
    )


def _doing(pod: Object) -> str:
    status = pod.get("status", {})
    for container in status.get("initContainerStatuses", []):
        state = container.get("state", {})
        if container["name"] == INITIALIZER and "running" in state:
            return "downloading the model"
        if "terminated" not in state:
            return f"{container['name']} is starting"
    if any("running" in container.get("state", {}) for container in status.get("containerStatuses", [])):
        return "the model is being loaded"
    return "pulling images" if status.get("containerStatuses") else "being scheduled"
