"""Which versions have proved themselves: all their pods were ready, and they answered the smoke test.

It is kept in a ConfigMap NAME-deployments beside the InferenceService, and goes with that. The InferenceService itself
has no place for it: KServe copies its annotations to the pods, and a change would start those anew. Its condition
`Ready` is false while one more pod starts beside those that serve, and true while pods of the version before still do.
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
MOST = 5  # so many are kept, each of about 10 kB
MOST_CHARACTERS = 900_000  # a ConfigMap has room for 1 MiB
CHANGED = (404, 409)  # it is gone, or another, since it was read
ATTEMPTS = 5


@dataclass(frozen=True)
class Version:
    """What is told apart. deployed: the fingerprint of what was applied; image: None where it is not ours to say."""

    deployed: str
    storage_uri: str
    image: str | None

    def is_same_as(self, other: Version) -> bool:
        """Somebody else may have changed either the URI or the image, and left the fingerprint."""
        has_images = self.image is not None and other.image is not None
        is_another_image = has_images and self.image != other.image
        return (self.deployed, self.storage_uri) == (other.deployed, other.storage_uri) and not is_another_image


@dataclass(frozen=True)
class Proved(Version):
    """A version that answered. objects: all that was applied; None where somebody else did that. model: its name."""

    overlay: str
    at: str
    objects: list[Object] | None
    model: str = MODEL_NAME  # of records from before there was more than one


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Records:
    """Of the InferenceService of this name. Every method raises PipelineError."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._name = f"{service}-deployments"

    def read(self, service: Object | None) -> list[Proved]:
        """The latest first. service: as the cluster has it; what is left of one before it is none of its own."""
        return _entries(self._cluster.get(CONFIG_MAPS, self._name), service)

    def add(self, proved: Proved, service: Object) -> None:
        """Makes it the latest. service: the InferenceService as the cluster has it, to which the record belongs.

        Whoever writes at the same time loses nothing: what is there by then was read, or the API server refuses this.
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
    """As many of them as there is room for. Secrets are left out: many may read a ConfigMap who may not read those."""
    told = []
    for entry in entries[:MOST]:
        objects = entry.objects and [found for found in entry.objects if found["kind"] != "Secret"]
        told.append(asdict(replace(entry, objects=objects)))
    while len(text := json.dumps(told, indent=1)) > MOST_CHARACTERS and len(told) > 1:
        told.pop()
    return text


def _entries(found: Object | None, service: Object | None) -> list[Proved]:
    """Without those that are of another form, since somebody, or another release, has written them."""
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
