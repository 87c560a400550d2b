"""Our annotations of the InferenceService. They remember enough to roll back or delete from any machine."""

from __future__ import annotations

import copy
import hashlib
import json
import re

from pipeline.artefact.version import NAME
from pipeline.deployment.objects import Object, annotations_of, image_of, name_of, service_of, storage_uri_of

# Live clusters have these names: do not change them.
DEPLOYED = "torchserve-alexnet/deployed"  # a fingerprint of what was applied
OVERLAY = "torchserve-alexnet/overlay"
PREVIOUS_URI = "torchserve-alexnet/previous-storage-uri"
PREVIOUS_IMAGE = "torchserve-alexnet/previous-image"
OBJECTS = "torchserve-alexnet/objects"  # everything that was ever applied with it, for --delete
IMAGE = "torchserve-alexnet/image"  # as applied; pods report it in GET /: kserve/runtime/serving-runtime.yaml
VERSION = "torchserve-alexnet/version"  # the archive's
# Its model; without deploy.sh, an overlay sets it. Unlike those above, it is part of what is applied.
MODEL = "torchserve-alexnet/model"
# Last in a folder, or a tag with or without a digest.
IN_STORAGE_URI = rf"[/:]({NAME.pattern})(@sha256:[0-9a-f]+)?/?$"
OURS = (DEPLOYED, OVERLAY, PREVIOUS_URI, PREVIOUS_IMAGE, OBJECTS, IMAGE, VERSION)


def our_annotations_of(service: Object | None) -> dict[str, str]:
    annotations = annotations_of(service or {})
    return {name: annotations[name] for name in OURS if name in annotations}


def annotated(objects: list[Object], ours: dict[str, str]) -> list[Object]:
    """The same objects. Of our annotations, their InferenceService has only these, and those that name the release."""
    service = service_of(objects)
    theirs = {name: value for name, value in annotations_of(service).items() if name not in OURS}
    changed = service | {"metadata": service["metadata"] | {"annotations": theirs | ours | _release(objects)}}
    return [changed if found is service else found for found in objects]


def fingerprinted(objects: list[Object], ours: dict[str, str]) -> list[Object]:
    """As `annotated`, with a fingerprint of these objects."""
    return annotated(objects, ours | {DEPLOYED: _fingerprint(objects)})


def _release(objects: list[Object]) -> dict[str, str]:
    """What `kubectl get` and GET / show under the same names. Pods have it too, so changing it here restarts them."""
    named = {}
    if image := image_of(objects):
        named[IMAGE] = image
    # pvc://alexnet-models has none.
    if version := re.search(IN_STORAGE_URI, storage_uri_of(service_of(objects)) or ""):
        named[VERSION] = version[1]
    return named


def _fingerprint(objects: list[Object]) -> str:
    """The same objects have the same fingerprint, whatever our annotations say."""
    objects = copy.deepcopy(objects)
    for found in objects:
        for name in OURS:
            annotations_of(found).pop(name, None)
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:12]


def list_of_objects(objects: list[Object]) -> str:
    return "; ".join(sorted({reference_to(found) for found in objects}))


def objects_from_list(text: str) -> list[Object]:
    """What `list_of_objects` wrote, as objects with only their names."""
    references = [entry.split(" ") for entry in text.split("; ") if entry]
    return [{"apiVersion": version, "kind": kind, "metadata": {"name": name}} for version, kind, name in references]


def reference_to(thing: Object) -> str:
    return f"{thing['apiVersion']} {thing['kind']} {name_of(thing)}"
