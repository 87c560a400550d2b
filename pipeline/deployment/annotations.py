"""Our annotations of the InferenceService: with what they remember, one can go back, or delete, from any machine."""

from __future__ import annotations

import copy
import hashlib
import json
import re

from pipeline.artefact.version import NAME
from pipeline.deployment.objects import Object, annotations_of, image_of, name_of, service_of, storage_uri_of

# Live clusters hold these names.
DEPLOYED = "torchserve-alexnet/deployed"  # a fingerprint of what was applied
OVERLAY = "torchserve-alexnet/overlay"
PREVIOUS_URI = "torchserve-alexnet/previous-storage-uri"
PREVIOUS_IMAGE = "torchserve-alexnet/previous-image"
OBJECTS = "torchserve-alexnet/objects"  # a list of all that was ever applied with it, for --delete
IMAGE = "torchserve-alexnet/image"  # as applied; pods tell it in GET /, by kserve/runtime/serving-runtime.yaml
VERSION = "torchserve-alexnet/version"  # the archive's
# Which model it has; without deploy.sh, an overlay says so. Unlike those above, it is a part of what is applied.
MODEL = "torchserve-alexnet/model"
# Last in a folder, or a tag with or without a digest.
IN_STORAGE_URI = rf"[/:]({NAME.pattern})(@sha256:[0-9a-f]+)?/?$"
OURS = (DEPLOYED, OVERLAY, PREVIOUS_URI, PREVIOUS_IMAGE, OBJECTS, IMAGE, VERSION)


def our_annotations_of(service: Object | None) -> dict[str, str]:
    annotations = annotations_of(service or {})
    return {name: annotations[name] for name in OURS if name in annotations}


def annotated(objects: list[Object], ours: dict[str, str]) -> list[Object]:
    """The same objects, whose InferenceService has these of our annotations, those that name the release, and no others
    of them."""
    service = service_of(objects)
    theirs = {name: value for name, value in annotations_of(service).items() if name not in OURS}
    changed = service | {"metadata": service["metadata"] | {"annotations": theirs | ours | _release(objects)}}
    return [changed if found is service else found for found in objects]


def fingerprinted(objects: list[Object], ours: dict[str, str]) -> list[Object]:
    """The same as `annotated`, with a fingerprint of these objects."""
    return annotated(objects, ours | {DEPLOYED: _fingerprint(objects)})


def _release(objects: list[Object]) -> dict[str, str]:
    """What `kubectl get` and GET / tell by the same names. Pods have it too, so nothing here changes but with them."""
    named = {}
    if image := image_of(objects):
        named[IMAGE] = image
    # pvc://alexnet-models tells none.
    if version := re.search(IN_STORAGE_URI, storage_uri_of(service_of(objects)) or ""):
        named[VERSION] = version[1]
    return named


def _fingerprint(objects: list[Object]) -> str:
    """The same for the same objects, whatever our annotations say."""
    objects = copy.deepcopy(objects)
    for found in objects:
        for name in OURS:
            annotations_of(found).pop(name, None)
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:12]


def list_of_objects(objects: list[Object]) -> str:
    return "; ".join(sorted({reference_to(found) for found in objects}))


def objects_from_list(text: str) -> list[Object]:
    """What `list_of_objects` wrote, as objects that have no more than their names."""
    references = [entry.split(" ") for entry in text.split("; ") if entry]
    return [{"apiVersion": version, "kind": kind, "metadata": {"name": name}} for version, kind, name in references]


def reference_to(thing: Object) -> str:
    return f"{thing['apiVersion']} {thing['kind']} {name_of(thing)}"
