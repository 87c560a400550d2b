"""Waiting until a new version serves.

A service can be ready with its old pods. An annotation identifies the pods of a new version: KServe copies the
annotations of an InferenceService to its Deployment and pods. (`status.observedGeneration` does not help: in Standard
mode it is the Deployment's.)
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import NotReady, Unreachable
from pipeline.deployment.objects import (
    AUTOSCALER,
    SERVING_RUNTIME,
    Object,
    annotations_of,
    image_of,
    is_ready,
    lacking,
    name_of,
    service_of,
    storage_uri_of,
)
from pipeline.deployment.pace import Pace
from pipeline.deployment.pods import doing_of
from pipeline.deployment.proof import is_of
from pipeline.deployment.resources import DEPLOYMENTS, INFERENCE_SERVICES, PODS, SERVING_RUNTIMES, pods_of
from pipeline.deployment.trouble import Trouble, find_trouble
from pipeline.deployment.voice import Line
from pipeline.shared.errors import PipelineError

LOG_LINES = 10


@dataclass(frozen=True)
class View:
    """The service at one moment. `summary` is a line for the user."""

    service: Object
    ready: bool
    summary: str
    trouble: Trouble | None = None


class Rollout:
    """objects: as they were applied, the InferenceService with its fingerprint. progress: called at every poll."""

    def __init__(self, cluster: Cluster, objects: list[Object], pace: Pace, progress: Line) -> None:
        self._cluster = cluster
        self._service = service_of(objects)
        self._runtime = next((found for found in objects if found["kind"] == SERVING_RUNTIME), None)
        self._image = image_of(objects)
        self._name = name_of(self._service)
        self._pace = pace
        self._progress = progress

    def wait(self) -> Object:
        """The InferenceService, once it serves the new version. Raises NotReady, or PipelineError if it is gone."""
        began = seen = last = time.monotonic()
        for_nodes = 0.0  # seconds spent waiting for nodes: see Pace.node
        trouble: Trouble | None = None
        told: Trouble | None = None
        while True:
            now = time.monotonic()
            if trouble and trouble.awaits_node:
                for_nodes = min(for_nodes + now - last, self._pace.node)
            last = now
            is_over = now - began - for_nodes > self._pace.timeout
            try:
                view = self._look()
            except Unreachable:
                if is_over:
                    raise
                self._progress("the cluster does not answer, trying again")
                time.sleep(self._pace.poll)
                continue
            if told and view.trouble and view.trouble.is_same_as(told):
                self._progress(told.reason)  # in the words of its first report
            else:
                self._progress(view.summary)
                told = view.trouble or told
            if view.ready:
                return view.service
            if view.trouble is None or not view.trouble.is_same_as(trouble):
                seen = now
            trouble = view.trouble
            if trouble and trouble.patience is not None and now - seen >= trouble.patience:
                raise NotReady(trouble.reason, self._logs(trouble))
            if is_over:
                beside = f", plus {for_nodes:.3g} s for a node" if for_nodes else ""
                raise NotReady(
                    f"not ready within {self._pace.timeout:g} s{beside}: {view.summary}", self._logs(trouble)
                )
            time.sleep(self._pace.poll)

    def _logs(self, trouble: Trouble | None) -> list[str]:
        if trouble is None or not trouble.container:
            return []
        lines = self._cluster.logs(trouble.pod, trouble.container, trouble.previous, LOG_LINES)
        return [f"{trouble.container}: {line}" for line in lines]

    def live(self) -> Object:
        """The InferenceService. Raises PipelineError if it is gone, or somebody else has replaced it."""
        service = self._cluster.get(INFERENCE_SERVICES, self._name)
        if service is None:
            raise PipelineError(f"the InferenceService {self._name} was deleted in the meantime: run this again")
        if not self._is_as_applied(service):
            raise PipelineError(
                f"somebody else deployed {self._name} in the meantime, and replaced what this run applied: "
                "wait until that one ends"
            )
        return service

    def _is_as_applied(self, service: Object) -> bool:
        """Checks the runtime too: of two concurrent deployments, each may have applied one of the two objects last."""
        runtime = self._runtime and self._cluster.get(SERVING_RUNTIMES, name_of(self._runtime))
        is_the_image = self._runtime is None or (runtime is not None and image_of([runtime]) == self._image)
        is_the_version = storage_uri_of(service) == storage_uri_of(self._service)
        return is_of(service, self._service, None) and is_the_version and is_the_image

    def _look(self) -> View:
        service = self.live()
        selector = pods_of(service)
        deployments = [found for found in self._cluster.find(DEPLOYMENTS, **selector) if self._is_new(found)]
        pods = [found for found in self._cluster.find(PODS, **selector) if self._is_new(found)]
        least = _least_replicas(service)
        if is_ready(service) and deployments and all(_is_complete(found, least) for found in deployments):
            return View(service, True, "ready")
        if trouble := find_trouble(self._cluster, service, deployments, pods, self._pace.patience):
            return View(service, False, trouble.reason, trouble)
        return View(service, False, _summary(service, deployments, pods, least))

    def _is_new(self, found: Object) -> bool:
        """For a Deployment, its pod template's annotation counts; Knative sets it there too."""
        template = found.get("spec", {}).get("template", found)
        is_going = "deletionTimestamp" in found["metadata"]
        return is_of(template, self._service, self._image) and not is_going


def _least_replicas(service: Object) -> int:
    """The autoscaler's minimum: KServe leaves the number to it, so a new Deployment starts with one replica.

    An autoscaler that is not KServe's own (`external`) may go lower.
    """
    is_external = annotations_of(service).get(AUTOSCALER) == "external"
    return 0 if is_external else int(service["spec"]["predictor"].get("minReplicas", 1))


def _replicas(deployment: Object, least: int) -> int:
    return max(int(deployment["spec"].get("replicas", 1)), least)


def _is_complete(deployment: Object, least: int) -> bool:
    """All its pods are of the new version and available, and no old pod takes requests."""
    status, wanted = deployment.get("status", {}), _replicas(deployment, least)
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3


def _summary(service: Object, deployments: list[Object], pods: list[Object], least: int) -> str:
    if not deployments:
        return "waiting for KServe to create the Deployment"
    wanted = sum(_replicas(found, least) for found in deployments)
    up = sum(is_ready(pod) for pod in pods)
    doing = [f"{name_of(pod)}: {doing_of(pod)}" for pod in pods if not is_ready(pod)]
    if up >= wanted and not doing:
        behind = sorted(found.type for found in lacking(service))
        waits_for = ", ".join(name for name in behind if name != "Ready") or "the old pods to end"
        doing = [f"waiting for {waits_for}"]
    return "; ".join((f"{up} of {wanted} pods ready", *doing))
