"""Which model a service has: it is in the path of predict calls, of the smoke test's and of a public route's."""

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
    """Its annotation says so; a service without it is from before there was more than one model.

    What is no name of a model is none here either: it would become a part of a path that the API server is asked.
    """
    said = annotations_of(service).get(MODEL, MODEL_NAME)
    return said if NAME.fullmatch(said) else MODEL_NAME


def with_model(objects: list[Object], model: str) -> list[Object]:
    """The same objects for a model of this name: the annotation that says so, the label, and the public paths."""
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
    """JSON in which a model's paths, `/v1/models/alexnet:predict` or `/v2/models/alexnet/infer`, are another's."""
    if isinstance(value, dict):
        return {key: _moved(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, old, new) for inner in value]
    if isinstance(value, str) and (value == old or value.startswith((f"{old}:", f"{old}/"))):
        return new + value.removeprefix(old)
    return value
