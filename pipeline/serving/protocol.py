"""How a request asks about a picture, and where its answer has the classes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NotRequired, TypedDict, cast

from pipeline.serving.route import explain_route, infer_route, predict_route

LENGTH = "Inference-Header-Content-Length"  # of the JSON before v2's binary data
JPEG = b"\xff\xd8\xff"  # the first bytes of a JPEG file
INDICES = 2**63  # as many as v2's INT64 holds
INPUT = "images"  # the input's name in the model's metadata


class Protocol(StrEnum):
    """raw: the picture itself is the body. v2, grpc: the Open Inference Protocol, which has no WordNet ids."""

    RAW = "raw"
    V1 = "v1"
    V2 = "v2"
    GRPC = "grpc"


class Class(TypedDict):
    """A class as in this model's answers. Other servers may give only `label` and `probability`.

    wnid: the WordNet id, if the class has one.
    """

    index: NotRequired[int]
    wnid: NotRequired[str]
    label: str
    probability: float


@dataclass(frozen=True)
class Explained:
    """The classes of an image, and a JPEG that shows which part of it led to the first class."""

    classes: list[Class]
    overlay: bytes


@dataclass(frozen=True)
class Question:
    """A call over HTTP."""

    route: str
    body: bytes
    content_type: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def question(protocol: Protocol, model: str, picture: bytes | str, top_k: int) -> Question:
    """picture: its bytes, or in v1 a URL that the server fetches."""
    if protocol is Protocol.V2:
        assert isinstance(picture, bytes)
        return _in_v2(model, picture, top_k)
    if protocol is Protocol.RAW and isinstance(picture, bytes):
        return Question(predict_route(model), picture, "application/octet-stream", {"top_k": str(top_k)})
    instance = b64_instance(picture) if isinstance(picture, bytes) else {"url": picture}
    body = {"instances": [instance], "parameters": {"top_k": top_k}}
    return Question(predict_route(model), json.dumps(body).encode(), "application/json")


def question_why(protocol: Protocol, model: str, picture: bytes | str, top_k: int) -> Question:
    """The same, asking for an explanation: only in v1, or with the picture itself as the body."""
    return replace(question(protocol, model, picture, top_k), route=explain_route(model))


def b64_instance(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _in_v2(model: str, content: bytes, top_k: int) -> Question:
    """The picture as one element of BYTES after the JSON: the binary tensor data extension."""
    element = element_of(content)
    tensor = {"name": INPUT, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"top_k": top_k}}).encode()
    return Question(infer_route(model), head + element, "application/octet-stream", headers={LENGTH: str(len(head))})


def element_of(content: bytes) -> bytes:
    """An element of a BYTES tensor: its length, then the content."""
    return len(content).to_bytes(4, "little") + content


def classes_in(body: Any) -> list[Class]:
    """The JSON answer to a v1 call for one image → its classes, most probable first.

    Raises ValueError, LookupError or TypeError if it is not an answer from this model.
    """
    [prediction] = body["predictions"]
    return checked(prediction["classes"])


def explained_in(body: Any) -> Explained:
    """The same for a call that asks for an explanation."""
    [explanation] = body["explanations"]
    overlay = base64.b64decode(explanation["b64"], validate=True)
    if not overlay.startswith(JPEG):
        raise ValueError
    return Explained(classes_in(body), overlay)


def classes_in_v2(body: Any) -> list[Class]:
    """The same for v2, with all outputs in JSON."""
    outputs = {output["name"]: output["data"] for output in body["outputs"]}
    return of_columns(outputs["index"], outputs["label"], outputs["probability"])


def of_columns(index: list[Any], label: list[Any], probability: list[Any]) -> list[Class]:
    """Raises as `classes_in`."""
    rows = zip(index, label, probability, strict=True)
    return checked([{"index": number, "label": name, "probability": value} for number, name, value in rows])


def checked(classes: Any) -> list[Class]:
    if not isinstance(classes, list) or not classes or not all(isinstance(entry, dict) for entry in classes):
        raise TypeError
    return [_class(entry) for entry in classes]


def _class(entry: Any) -> Class:
    """Only the known keys of a class: an answer may hold anything else, at any depth. Raises as `classes_in`."""
    known = {name: entry[name] for name in ("index", "wnid", "label", "probability") if entry.get(name) is not None}
    index, wnid = known.get("index", 0), known.get("wnid", "")
    probability = known["probability"]
    if (
        type(index) is not int
        or not 0 <= index < INDICES
        or not isinstance(wnid, str)
        or not isinstance(known["label"], str)
        or isinstance(probability, bool)
        or not 0 <= probability <= 1
    ):
        raise TypeError
    return cast(Class, known)
