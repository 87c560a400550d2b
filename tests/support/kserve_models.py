"""What the KServe SDK's models would lose from an object: every field must survive a round trip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubernetes.client.models
from kserve.api_client import ApiClient

MODELS = {
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1alpha1", "ClusterStorageContainer"): "V1alpha1ClusterStorageContainer",
}
NATIVE: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


def losses(object_: dict[str, Any]) -> Iterator[str]:
    """Sentences that begin with the path of a mismatch. None for kinds that are not KServe's."""
    model = MODELS.get((object_["apiVersion"], object_["kind"]))
    if model is None:
        return
    found: list[str] = []
    made = _made(object_, model, object_["kind"], found)
    yield from found
    if not found:
        yield from _changes(object_, ApiClient().sanitize_for_serialization(made), object_["kind"])


def _changes(given: Any, got: Any, path: str) -> Iterator[str]:
    """Fields that only come out are the SDK's own: it sends `name: ""`, which KServe treats as missing."""
    if isinstance(given, dict) and isinstance(got, dict):
        for name, item in given.items():
            yield from _changes(item, got.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(got, list) and len(given) == len(got):
        for index, item in enumerate(given):
            yield from _changes(item, got[index], f"{path}[{index}]")
    elif given != got:
        yield f"{path}: {given!r} comes out as {got!r}"


def _made(value: Any, type_: str, path: str, found: list[str]) -> Any:
    if match := re.fullmatch(r"list\[(.*)\]", type_):
        if isinstance(value, list):
            return [_made(item, match[1], f"{path}[{index}]", found) for index, item in enumerate(value)]
    elif match := re.fullmatch(r"dict\((\w+), (.*)\)", type_):
        if isinstance(value, dict):
            return {name: _made(item, match[2], f"{path}.{name}", found) for name, item in value.items()}
    elif type_ in NATIVE:
        if isinstance(value, NATIVE[type_]):
            return value
    else:
        return _made_model(value, type_, path, found)
    found.append(f"{path}: {value!r} is not of type {type_}")
    return None


def _made_model(value: Any, type_: str, path: str, found: list[str]) -> Any:
    model = getattr(kserve.models, type_, None) or getattr(kubernetes.client.models, type_, None)
    if model is None:  # the SDK has no class for quantities and the like: values, that it passes on as they are
        return value
    if not isinstance(value, dict):
        found.append(f"{path}: {value!r} is not a {type_}")
        return None
    attributes = {json_name: name for name, json_name in model.attribute_map.items()}
    arguments = {}
    for json_name, item in value.items():
        if json_name not in attributes:
            found.append(f"{path}: {type_} has no field {json_name}")
            continue
        name = attributes[json_name]
        arguments[name] = _made(item, model.openapi_types[name], f"{path}.{json_name}", found)
    try:
        return model(**arguments)
    except ValueError as error:  # the client's own validation: something required is missing
        found.append(f"{path}: {error}")
        return None
