"""Which model a service has: its name is in the path of predict calls, of the smoke test and of a public route."""

from __future__ import annotations

import copy
import re
from typing import Any

from pipeline.artefact.archive import NAME
from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.annotations import MODEL
from pipeline.deployment.objects import Object, annotations_of, service_of
from pipeline.serving.route import model_route, v2_route

LABEL = "app.kubernetes.io/name"
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
HTTP_ROUTE = "HTTPRoute"


def model_of(service: Object) -> str:
    """The name in its annotation; a service without one is from before there were several models.

    An invalid name is ignored, since it would become part of a path for the API server.
    """
    said = annotations_of(service).get(MODEL, MODEL_NAME)
    return said if NAME.fullmatch(said) else MODEL_NAME


def with_model(objects: list[Object], model: str) -> list[Object]:
    """The same objects for a model of this name: in the annotation, the label, and the public paths."""
    was = model_of(service_of(objects))
    if was == model:
        return objects
    objects = copy.deepcopy(objects)
    service_of(objects)["metadata"].setdefault("annotations", {})[MODEL] = model
    for thing in objects:
        labels = thing["metadata"].get("labels", {})
        if labels.get(LABEL) == was and LABEL_VALUE.fullmatch(model):
            labels[LABEL] = model
        if thing["kind"] == HTTP_ROUTE:
            for route in (model_route, v2_route):
                thing["spec"] = _moved(thing["spec"], route(was), route(model))
    return objects


def _moved(value: Any, old: str, new: str) -> Any:
    """JSON with a model's paths, `/v1/models/alexnet:predict` or `/v2/models/alexnet/infer`, replaced by another's."""
    if isinstance(value, dict):
        return {key: _moved(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, old, new) for inner in value]
    if isinstance(value, str) and (value == old or value.startswith((f"{old}:", f"{old}/"))):
        return new + value.removeprefix(old)
    return value
