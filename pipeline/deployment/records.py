"""Which versions have proved themselves: all their pods were ready, and they answered the smoke test.

It is kept in a ConfigMap NAME-deployments beside the InferenceService, and goes with that. The InferenceService itself
has no place for it: KServe copies its annotations to the pods, and a change would start those anew. Its condition
`Ready` is false while one more pod starts beside those that serve, and true while pods of the version before still do.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import Refused
from pipeline.deployment.objects import Object, name_of
from pipeline.deployment.resources import CONFIG_MAPS

KEY = "deployments.json"
MOST = 5  # so many are kept; each is about 10 kB, and a ConfigMap has room for 1 MiB
CONFLICT = 409
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
    """A version that answered. objects: all that was applied; None where somebody else did that."""

    overlay: str
    at: str
    objects: list[Object] | None


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Records:
    """Of the InferenceService of this name. Every method raises PipelineError."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._name = f"{service}-deployments"

    def read(self) -> list[Proved]:
        """The latest first."""
        return _entries(self._cluster.get(CONFIG_MAPS, self._name))

    def add(self, proved: Proved, service: Object) -> None:
        """Makes it the latest. service: the InferenceService as the cluster has it, to which the record belongs.

        Whoever writes at the same time loses nothing: the API server takes a change of what was read, or refuses it.
        """
        for attempt in range(ATTEMPTS):
            found = self._cluster.get(CONFIG_MAPS, self._name)
            others = [entry for entry in _entries(found) if not entry.is_same_as(proved)]
            entries = [asdict(entry) for entry in [proved, *others][:MOST]]
            try:
                self._cluster.apply(self._config_map(entries, service, found))
                return
            except Refused as error:
                if error.status != CONFLICT or attempt == ATTEMPTS - 1:
                    raise

    def _config_map(self, entries: list[dict[str, Any]], service: Object, found: Object | None) -> Object:
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
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {KEY: json.dumps(entries, indent=1)},
        }


def _entries(found: Object | None) -> list[Proved]:
    """Nothing where somebody has written something else there."""
    try:
        return [Proved(**entry) for entry in json.loads((found or {}).get("data", {}).get(KEY, "[]"))]
    except (TypeError, ValueError):
        return []
