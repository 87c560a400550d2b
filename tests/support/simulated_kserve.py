"""A model of KServe 0.20 in Standard mode, with the Deployment controller, an HPA, the nodes and a Service.

It takes one step each time a client looks at an InferenceService (`restless`: or at its Deployment), so nothing
depends on time. It models what mattered in a real cluster:

- KServe passes the annotations of an InferenceService on to the pods, leaves `replicas` to an HPA, and derives `Ready`
  from the Deployment's `Available`, one step late. So it is true with the previous version's pods, and false while a
  replica is missing. https://github.com/kserve/kserve/blob/v0.20.0/pkg/apis/serving/v1beta1/inference_service_status.go
- A roll-out has maxSurge 1 and maxUnavailable 0: old pods serve until as many new ones are ready.
- An HPA first sees a Deployment of one pod, and then brings it to `minReplicas`.
- Any ready pod answers for a Service, whatever its version: here the oldest, which misleads most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.deployment.objects import Object, annotations_of, image_of, name_of, storage_uri_of
from tests.support.api_server import ANSWER, IS_READY, ApiServer, Call, Status

SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
READY_AFTER = 3  # steps: scheduled, archive present, model loaded
HPA_SEES = 4  # steps from the creation of a Deployment until its HPA counts

# The fate of a version.
SERVES = "serves"
CRASHES = "crashes"
NEVER_READY = "never ready"
WRONG = "answers wrongly"
MISSING = "has no archive"
UNPULLABLE = "has no image"
UNNAMED = "has an image of no name"


class Version(NamedTuple):
    uri: str
    image: str | None


@dataclass
class Pod:
    name: str
    version: Version
    fate: str
    annotations: dict[str, str]
    age: int = 0
    has_node: bool = False
    going: bool = False

    @property
    def is_ready(self) -> bool:
        return self.age >= READY_AFTER and self.fate in (SERVES, WRONG)

    def as_object(self) -> Object:
        metadata: Object = {"name": self.name, "annotations": self.annotations}
        if self.going:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return {"metadata": metadata, "status": self._status()} | _containers(self.version)

    def _status(self) -> Object:
        if not self.has_node:
            said = {"reason": "Unschedulable", "message": "0/2 nodes are available: 2 Insufficient cpu."}
            return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"} | said]}
        ready = {"type": "Ready", "status": "True" if self.is_ready else "False"}
        status: Object = {"phase": "Running" if self.age >= READY_AFTER else "Pending", "conditions": [ready]}
        if self.fate == MISSING and self.age >= 2:
            status["initContainerStatuses"] = [_failing("storage-initializer", self.age - 2)]
        elif self.age >= 1:
            state = {"running": {}} if self.age == 1 else {"terminated": {"exitCode": 0, "reason": "Completed"}}
            status["initContainerStatuses"] = [{"name": "storage-initializer", "state": state}]
        if self.age >= 2 and self.fate != MISSING:
            status["containerStatuses"] = [self._server()]
        return status

    def _server(self) -> Object:
        if self.fate == CRASHES:
            return _failing("kserve-container", self.age - 2)
        if self.fate == UNNAMED:
            return {"name": "kserve-container", "state": {"waiting": {"reason": "InvalidImageName"}}}
        if self.fate == UNPULLABLE:
            reason = ("ErrImagePull", "ImagePullBackOff")[self.age % 2]
            return {"name": "kserve-container", "state": {"waiting": {"reason": reason, "message": "not found"}}}
        return {"name": "kserve-container", "state": {"running": {}}}


def _containers(version: Version) -> Object:
    return {"spec": {"containers": [{"name": "kserve-container", "image": version.image}]}}


def _failing(name: str, restarts: int) -> Object:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    return {"name": name, "restartCount": restarts, "state": waiting, "lastState": last}


@dataclass
class Workload:
    """A Deployment with its pods and its autoscaler. seen: what KServe wants, one step late."""

    version: Version
    annotations: dict[str, str]
    seen: tuple[Version, dict[str, str]]
    replicas: int = 1
    generation: int = 1
    observed: int = 0
    age: int = 0
    pods: list[Pod] = field(default_factory=list)
    said: Object = field(default_factory=dict)  # by KServe, about the Deployment one step earlier

    @property
    def alive(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.going]

    @property
    def of_now(self) -> list[Pod]:
        """The pods of the latest template."""
        return [pod for pod in self.alive if pod.annotations == self.annotations and pod.version == self.version]

    @property
    def of_before(self) -> list[Pod]:
        new = self.of_now
        return [pod for pod in self.alive if pod not in new]

    @property
    def ready(self) -> list[Pod]:
        return [pod for pod in self.alive if pod.is_ready]

    @property
    def is_available(self) -> bool:
        return len(self.ready) >= self.replicas


def version_of(api: ApiServer, service: Object) -> Version:
    runtime = api.objects.get(("servingruntimes", service["spec"]["predictor"]["model"].get("runtime", "")))
    return Version(str(storage_uri_of(service)), image_of([runtime]) if runtime else None)


class SimulatedKServe:
    """fates: of versions, by their storageUri or image; those that are not there serve.

    answered: the versions that ever answered a prediction as they should. load: replicas that the HPA wants.
    places: pods that the nodes have room for. restless: "deployments" or "pods", a look at which is a step, too.
    """

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._counter = itertools.count(1)
        self.fates: dict[str, str] = {}
        self.answered: set[Version] = set()
        self.load = 1
        self.places = 9
        self.restless: set[str] = set()
        self.workloads: dict[str, Workload] = {}

    # For tests to look at and act on.

    def fate_of(self, version: Version) -> str:
        return self.fates.get(version.image or "") or self.fates.get(version.uri, SERVES)

    def serving(self, name: str = "alexnet") -> set[Version]:
        """Versions whose pods are ready and answer correctly."""
        found = self.workloads.get(name)
        return {pod.version for pod in (found.ready if found else []) if pod.fate == SERVES}

    def lose_pod(self, name: str = "alexnet") -> None:
        """Removes it with its place, so that the next one waits until the place is back."""
        workload = self.workloads[name]
        if not workload.alive:
            return
        self.places = max(0, len(workload.alive) - 1)
        workload.pods.remove(workload.alive[0])

    def settle(self, steps: int = 30) -> None:
        """Time passes while nobody looks."""
        for _ in range(steps):
            for service in [found for (kind, _), found in self._api.objects.items() if kind == "inferenceservices"]:
                self.look(service)

    # Called by the API server.

    def look(self, service: Object) -> None:
        workload = self._workload(service)
        workload.said = _said(workload)
        workload.age += 1
        workload.pods = workload.alive
        for number, pod in enumerate(workload.pods):
            pod.has_node = pod.has_node or number < self.places
            pod.age += pod.has_node
        if self._rolled_over(service, workload):
            return  # the Deployment controller has not noticed it yet
        workload.observed = workload.generation
        self._scale(service, workload)
        self._roll_out(workload)

    def status(self, service: Object) -> Object:
        said = self._workload(service).said
        return {
            "conditions": [said | {"type": kind} for kind in ("PredictorReady", "Ready")]
            + [{"type": "Stopped", "status": "False"}],
            "url": f"http://{name_of(service)}-models.example.com",
            "deploymentMode": "Standard",
            "modelStatus": {"transitionStatus": "UpToDate"},
        }

    def deployments(self, service: Object) -> Iterator[Object]:
        if "deployments" in self.restless:
            self.look(service)
        workload = self._workload(service)
        if workload.age:
            yield {
                "metadata": {"name": f"{name_of(service)}-predictor", "generation": workload.generation},
                "spec": {
                    "replicas": workload.replicas,
                    "template": {"metadata": {"annotations": workload.annotations}} | _containers(workload.version),
                },
                "status": {
                    "observedGeneration": workload.observed,
                    "replicas": len(workload.alive),
                    "updatedReplicas": len(workload.of_now),
                    "readyReplicas": len(workload.ready),
                    "availableReplicas": len(workload.ready),
                    "conditions": [_said(workload) | {"type": "Available"}],
                },
            }

    def pods(self, service: Object) -> Iterator[Object]:
        if "pods" in self.restless:
            self.look(service)
        for pod in self._workload(service).pods:
            yield pod.as_object()

    def events(self, service: Object) -> list[Object]:
        return []

    def ask(self, service: Object, call: Call) -> Object:
        ready = self._workload(service).ready
        if not ready:
            raise Status(503, f'no endpoints available for service "{name_of(service)}-predictor"')
        pod = ready[0]
        if pod.fate == WRONG:
            return {"predictions": []}
        if not call.path.endswith(":predict"):
            return IS_READY
        self.answered.add(pod.version)
        return ANSWER

    def scale(self, service: Object, replicas: int) -> None:
        self.load = self._workload(service).replicas = replicas

    def delete_pod(self, name: str) -> None:
        for workload in self.workloads.values():
            workload.pods = [pod for pod in workload.pods if pod.name != name]

    def forget(self, service: Object) -> None:
        self.workloads.pop(name_of(service), None)

    # The controllers.

    def _workload(self, service: Object) -> Workload:
        name = name_of(service)
        if name not in self.workloads:
            wanted = self._wanted(service)
            self.workloads[name] = Workload(*wanted, seen=wanted)
            self.workloads[name].said = {"status": "Unknown"}
        return self.workloads[name]

    def _wanted(self, service: Object) -> tuple[Version, dict[str, str]]:
        handed_on = annotations_of(service) | {SOURCE_URI: str(storage_uri_of(service))}
        return version_of(self._api, service), handed_on

    def _rolled_over(self, service: Object, workload: Workload) -> bool:
        """KServe rewrites the Deployment if the InferenceService or the runtime changed a step ago."""
        seen, workload.seen = workload.seen, self._wanted(service)
        if seen == (workload.version, workload.annotations):
            return False
        workload.version, workload.annotations = seen
        workload.generation += 1
        return True

    def _scale(self, service: Object, workload: Workload) -> None:
        predictor = service["spec"]["predictor"]
        least = predictor.get("minReplicas", 1)
        if annotations_of(service).get(AUTOSCALER) == "none":
            workload.replicas = least
        elif workload.age >= HPA_SEES:
            workload.replicas = max(least, min(self.load, predictor.get("maxReplicas", least)))

    def _roll_out(self, workload: Workload) -> None:
        """One step with maxSurge 1 and maxUnavailable 0."""
        new, old = workload.of_now, workload.of_before
        idle = [pod for pod in old if not pod.is_ready]
        # https://github.com/kubernetes/kubernetes/blob/v1.35.0/pkg/controller/deployment/rolling.go
        removable = len(workload.alive) - workload.replicas - sum(not pod.is_ready for pod in new)
        if idle and removable > 0:
            idle[0].going = True
        elif old and removable > 0 and len(workload.ready) > workload.replicas:
            old[0].going = True
        elif not old and len(new) > workload.replicas:
            new[-1].going = True
        if len(new) < workload.replicas and len(workload.alive) < workload.replicas + 1:
            name = f"{len(workload.version.uri)}-{next(self._counter)}"
            fate = self.fate_of(workload.version)
            workload.pods.append(Pod(f"pod-{name}", workload.version, fate, dict(workload.annotations)))


def _said(workload: Workload) -> Object:
    """The Deployment's `Available`, and what KServe derives from it."""
    if workload.is_available:
        return {"status": "True", "reason": "MinimumReplicasAvailable"}
    message = "Deployment does not have minimum availability."
    return {"status": "False", "reason": "MinimumReplicasUnavailable", "message": message}
