"""Which versions have proved themselves: all their pods were ready, and they answered the smoke test.

They are kept in a ConfigMap NAME-deployments, which is deleted with the InferenceService. The InferenceService itself
cannot hold them: KServe copies its annotations to the pods, so a change would restart those. Its condition `Ready` is
no proof: it is false while an additional pod starts, and true while old pods still serve.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pipeline.artefact.archive import NAME
from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import Refused
from pipeline.deployment.objects import Object, name_of
from pipeline.deployment.resources import CONFIG_MAPS

KEY = "deployments.json"
MOST = 5  # records, each of about 10 kB
MOST_CHARACTERS = 900_000  # a ConfigMap has room for 1 MiB
CHANGED = (404, 409)  # it was deleted or replaced since it was read
ATTEMPTS = 5


@dataclass(frozen=True)
class Version:
    """What identifies a version. deployed: the fingerprint of what was applied. image: None if not ours to set."""

    deployed: str
    storage_uri: str
    image: str | None

    def is_same_as(self, other: Version) -> bool:
        """Compares more than the fingerprint: somebody else may have changed only the URI or the image."""
        has_images = self.image is not None and other.image is not None
        is_another_image = has_images and self.image != other.image
        return (self.deployed, self.storage_uri) == (other.deployed, other.storage_uri) and not is_another_image


@dataclass(frozen=True)
class Proved(Version):
    """A version that answered. objects: all that was applied; None if somebody else did. model: its name."""

    overlay: str
    at: str
    objects: list[Object] | None
    model: str = MODEL_NAME  # for records from before there were several


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Records:
    """The records of the InferenceService of this name. Every method raises PipelineError."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._name = f"{service}-deployments"

    def read(self, service: Object | None) -> list[Proved]:
        """The latest first. service: as the cluster has it; the records of an earlier one of its name are ignored."""
        return _entries(self._cluster.get(CONFIG_MAPS, self._name), service)

    def add(self, proved: Proved, service: Object) -> None:
        """Makes it the latest. service: the InferenceService as the cluster has it, which owns the record.

        Concurrent writers lose nothing: if the ConfigMap changed since it was read, the API server refuses, and this
        tries again.
        """
        for attempt in range(ATTEMPTS):
            found = self._cluster.get(CONFIG_MAPS, self._name)
            others = [entry for entry in _entries(found, service) if not entry.is_same_as(proved)]
            try:
                self._cluster.write(self._config_map(_written([proved, *others]), service, found))
                return
            except Refused as error:
                if error.status not in CHANGED or attempt == ATTEMPTS - 1:
                    raise

    def _config_map(self, text: str, service: Object, found: Object | None) -> Object:
        owner = {key: service[key] for key in ("apiVersion", "kind")}
        owner |= {"name": name_of(service), "uid": service["metadata"]["uid"]}
        metadata: Object = {
            "name": self._name,
            "namespace": self._cluster.namespace,
            "labels": {"app.kubernetes.io/part-of": "torchserve-alexnet"},
            "ownerReferences": [owner],
        }
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}


def _written(entries: list[Proved]) -> str:
    """As many as fit. Secrets are left out: more people may read a ConfigMap than a Secret."""
    told = []
    for entry in entries[:MOST]:
        objects = entry.objects and [found for found in entry.objects if found["kind"] != "Secret"]
        told.append(asdict(replace(entry, objects=objects)))
    while len(text := json.dumps(told, indent=1)) > MOST_CHARACTERS and len(told) > 1:
        told.pop()
    return text


def _entries(found: Object | None, service: Object | None) -> list[Proved]:
    """Without entries in another form, which somebody else, or another release, wrote."""
    owners = [owner.get("uid") for owner in (found or {}).get("metadata", {}).get("ownerReferences", [])]
    if found is None or service is None or service["metadata"]["uid"] not in owners:
        return []
    try:
        told = json.loads(found.get("data", {}).get(KEY, "[]"))
    except ValueError:
        return []
    entries = [_entry(each) for each in told] if isinstance(told, list) else []
    return [entry for entry in entries if entry]


def _entry(told: Any) -> Proved | None:
    try:
        found = Proved(**{field.name: told[field.name] for field in fields(Proved) if field.name in told})
        return found if NAME.fullmatch(found.model) else None
    except (KeyError, TypeError):
        return None
