"""What controllers say in Events, of which nothing is in a status."""

from __future__ import annotations

from datetime import datetime

from pipeline.deployment.applied_fields import applied_at
from pipeline.deployment.cluster import FIELD_MANAGER, Cluster
from pipeline.deployment.objects import INFERENCE_SERVICE, Object, name_of
from pipeline.deployment.resources import EVENTS
from pipeline.shared.text import one_line

# What the cluster autoscaler says of a pod that fits on no node, GKE's too: it makes one; it could not, for want of
# machines or quota; it will not, since the pod would fit on none that it may make.
# https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-events-are-emitted-by-ca
MAKES_A_NODE = "TriggeredScaleUp"
SCALING = (MAKES_A_NODE, "FailedScaleUp", "NotTriggerScaleUp")


def warnings_of(cluster: Cluster, kind: str, name: str) -> list[Object]:
    """All that are kept (for an hour, mostly), the last one last."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    return sorted(cluster.find(EVENTS, fieldSelector=selector), key=lambda event: _times(event)[-1:])


def scaling_of(cluster: Cluster, pod: str) -> Object | None:
    """What an autoscaler said of a pod last, if there is one: an Event of SCALING."""
    events = cluster.find(EVENTS, fieldSelector=f"involvedObject.kind=Pod,involvedObject.name={pod}")
    said = [event for event in events if event.get("reason") in SCALING]
    return max(said, key=lambda event: _times(event)[-1:], default=None)


def warnings_since_applied(cluster: Cluster, service: Object) -> list[Object]:
    """Those of this very InferenceService that were given, or given again, after it was applied; the last one last.

    The API server's clock says when that was, in whole seconds. Most Events are no more exact.
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
