"""What controllers report only in Events, and in no status."""

from __future__ import annotations

from datetime import datetime

from pipeline.deployment.applied_fields import applied_at
from pipeline.deployment.cluster import FIELD_MANAGER, Cluster
from pipeline.deployment.objects import INFERENCE_SERVICE, Object, name_of
from pipeline.deployment.resources import EVENTS
from pipeline.shared.text import one_line

# The cluster autoscaler's Events (GKE's too) for a pod that fits on no node: it is creating one; it could not, for lack
# of machines or quota; it will not, since the pod would fit on none that it may create.
# https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-events-are-emitted-by-ca
MAKES_A_NODE = "TriggeredScaleUp"
SCALING = (MAKES_A_NODE, "FailedScaleUp", "NotTriggerScaleUp")


def warnings_of(cluster: Cluster, kind: str, name: str) -> list[Object]:
    """All that are still kept (usually for an hour), the latest last."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    return sorted(cluster.find(EVENTS, fieldSelector=selector), key=lambda event: _times(event)[-1:])


def scaling_of(cluster: Cluster, pod: str) -> Object | None:
    """The latest Event of SCALING for a pod, if there is one."""
    events = cluster.find(EVENTS, fieldSelector=f"involvedObject.kind=Pod,involvedObject.name={pod}")
    said = [event for event in events if event.get("reason") in SCALING]
    return max(said, key=lambda event: _times(event)[-1:], default=None)


def warnings_since_applied(cluster: Cluster, service: Object) -> list[Object]:
    """Warnings about exactly this InferenceService that were given, or repeated, after it was applied; the latest last.

    The API server's clock records that time in whole seconds. Most Events are no more exact.
    """
    since = applied_at(FIELD_MANAGER, service)
    uid = service["metadata"].get("uid")
    return [
        event
        for event in warnings_of(cluster, INFERENCE_SERVICE, name_of(service))
        if event.get("involvedObject", {}).get("uid", uid) == uid
        and (since is None or any(time >= since for time in _times(event)))
    ]


def sentence_of(event: Object) -> str:
    return f"{event.get('reason')}: {one_line(event.get('message'))}"


def _times(event: Object) -> list[datetime]:
    """In order: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/"""
    series = event.get("series") or {}
    times = (event.get("eventTime"), event.get("lastTimestamp"), series.get("lastObservedTime"))
    return sorted(datetime.fromisoformat(time) for time in times if time)
