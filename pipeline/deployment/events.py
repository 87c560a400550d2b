"""What controllers warn of in Events, of which nothing is in a status."""

from __future__ import annotations

from datetime import datetime

from pipeline.deployment.applied_fields import applied_at
from pipeline.deployment.cluster import FIELD_MANAGER, Cluster
from pipeline.deployment.objects import INFERENCE_SERVICE, Object, name_of
from pipeline.deployment.resources import EVENTS
from pipeline.shared.text import one_line


def warnings_of(cluster: Cluster, kind: str, name: str) -> list[Object]:
    """All that are kept (for an hour, mostly), the last one last."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    return sorted(cluster.find(EVENTS, fieldSelector=selector), key=lambda event: _times(event)[-1:])


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
