"""Removing from the cluster what this tool applied there, and nothing else."""

from __future__ import annotations

import time

from pipeline.deployment.applied_fields import applied_by
from pipeline.deployment.changes import Changes
from pipeline.deployment.cluster import FIELD_MANAGER, Cluster
from pipeline.deployment.errors import NotGone
from pipeline.deployment.manifests import IN_NO_NAMESPACE
from pipeline.deployment.objects import Object, name_of, title_of
from pipeline.deployment.pace import Pace
from pipeline.deployment.voice import Voice


class Removal:
    def __init__(self, cluster: Cluster, changes: Changes, voice: Voice, pace: Pace) -> None:
        self._cluster = cluster
        self._changes = changes
        self._voice = voice
        self._pace = pace

    def remove(self, objects: list[Object]) -> None:
        """In reverse order. Raises NotGone, or what the cluster raises."""
        removed = [title_of(found) for found in reversed(objects) if self._remove(found)]
        self._voice.say(f"deleted      {', '.join(removed)}" if removed else "nothing to delete")

    def _remove(self, thing: Object) -> bool:
        """Whether it existed and was ours."""
        resource, title = self._cluster.resource_of(thing), title_of(thing)
        live = self._cluster.get(resource, name_of(thing))
        if live is None:
            return False
        if applied_by(FIELD_MANAGER, live) is None:
            self._voice.warn(f"{title} was not applied by this tool: it is kept")
            return False
        if thing["kind"] in IN_NO_NAMESPACE:  # it may hold others' objects
            self._voice.warn(f"{title} is kept, others may use it: kubectl delete {thing['kind']} {name_of(thing)}")
            return False
        with self._changes.making(f"delete {title}"):
            self._cluster.delete(resource, live)
        self.wait_until_gone(thing, live["metadata"]["uid"])
        return True

    def wait_until_gone(self, thing: Object, uid: str) -> None:
        """uid: of the object that is being deleted. Raises NotGone."""
        deadline = time.monotonic() + self._pace.timeout
        resource = self._cluster.resource_of(thing)
        while (live := self._cluster.get(resource, name_of(thing))) and live["metadata"]["uid"] == uid:
            self._voice.progress(f"waiting until {title_of(thing)} is gone")
            if time.monotonic() > deadline:
                raise NotGone(live, self._pace.timeout)
            time.sleep(self._pace.poll)
