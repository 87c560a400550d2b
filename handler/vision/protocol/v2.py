"""KServe v2, the Open Inference Protocol: request body → Request, Answer → response body.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and its extension for binary data:
the tensors' bytes follow the JSON, and a header states the length of the JSON.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vision.errors import MalformedBody, MalformedField, UnsupportedType
from vision.image.formats import looks_like_an_image
from vision.protocol import grpc_json
from vision.protocol import top_k as classes
from vision.protocol import wish as wishes
from vision.protocol.answer import Answer, Response
from vision.protocol.input_tensor import instances
from vision.protocol.json_body import HEAD_LENGTH, load_json
from vision.protocol.kinds import FORM_TYPE
from vision.protocol.outputs import Tensor, flag, tensor, wanted
from vision.protocol.request import Request, V2Answer, Verb, bounded
from vision.protocol.sent import Sent
from vision.protocol.top_k import TOP_K
from vision.worker.settings import Limits
from vision.worker.torchserve import Row

JSON, BINARY = "application/json", "application/octet-stream"
EXPECTED_OBJECT = 'expected a JSON object {"inputs": […]}'
FIELDS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version", grpc_json.RAW)
NO_LENGTH = f"bytes follow the JSON, but no {HEAD_LENGTH} header says where they begin"
BINARY_OUTPUT = "binary_data_output"
LONGEST_ID = 256
LONGEST_LENGTH = 20  # digits


def parse(row: Row, limits: Limits) -> Request:
    """One TorchServe row → Request.

    Raises RequestError (400, 413 for anything too large, 415 for a form or an image).
    """
    model, version = row.model
    sent = _sent(row)
    fields, verb = sent.fields, row.verb
    if any(map(classes.is_like_top_k, fields.keys() - {*FIELDS})):
        raise MalformedField(TOP_K, f"is in the wrong place: send {classes.V2_BELONGS}")
    parameters = _parameters(fields, verb, model)
    own = {name: parameters[name] for name in (TOP_K,) if name in parameters}
    top_k = classes.of_parameters(own, row.top_k, limits)
    wish = None
    if verb is Verb.EXPLAIN:
        wishes.refuse_elsewhere(fields)
        wish = wishes.of_parameters(parameters, limits)
    binary = sent.behind is not None if sent.grpc else flag(parameters, BINARY_OUTPUT, "parameters", False)
    outputs = wanted(fields.get("outputs"), verb, binary)
    if sent.grpc:  # raw contents apply to all outputs or none
        outputs = tuple((name, binary) for name, _ in outputs)
    answered = V2Answer(model, version, _id(fields), outputs, sent.grpc)
    found, places = instances(sent, limits)
    request = Request(found, places, top_k, verb, wish, answered)
    return bounded(request, limits, f"parameters.{TOP_K}" if row.top_k is None else TOP_K)


def _sent(row: Row) -> Sent:
    body, behind = row.fields.get("body"), None
    if isinstance(body, (bytes, bytearray)):
        body, behind = _head(body, row)
    if not isinstance(body, dict):
        raise MalformedBody(EXPECTED_OBJECT)
    if "instances" in body and "inputs" not in body:
        raise MalformedField("instances", f"this is a KServe v1 request: send it to {row.v1_path}")
    return grpc_json.as_rest(body) if row.protocol == "grpc" else Sent(body, behind)


def _head(body: bytes | bytearray, row: Row) -> tuple[object, memoryview | None]:
    """The JSON, and the bytes after it."""
    said = row.head_length
    if said is None:
        if looks_like_an_image(body) or row.content_type.lower().startswith(FORM_TYPE):
            raise UnsupportedType(f"KServe v2 takes JSON; send an image or a form to {row.v1_path}")
        return load_json(body, EXPECTED_OBJECT, NO_LENGTH), None
    if not said.isascii() or not said.isdecimal() or len(said) > LONGEST_LENGTH or int(said) > len(body):
        raise MalformedField(HEAD_LENGTH, f"expected a number of bytes, at most the {len(body)} of the body")
    length = int(said)
    return load_json(body[:length], EXPECTED_OBJECT), memoryview(body)[length:]


def _parameters(fields: dict[str, object], verb: Verb, model: str) -> dict[str, object]:
    """The request's parameters. Clients may add others, whose meaning the protocol leaves to the server."""
    found = fields.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise MalformedField("parameters", "expected an object")
    if any(classes.is_like_top_k(name) for name in found if name != TOP_K):
        raise MalformedField("parameters", f"the name must be {TOP_K}: {classes.V2_BELONGS}")
    if verb is not Verb.EXPLAIN and (of_explain := [name for name in wishes.NAMES if name in found]):
        raise MalformedField(f"parameters.{of_explain[0]}", f"is only for explanations: /v2/models/{model}/explain")
    return found


def _id(fields: dict[str, object]) -> str | None:
    found = fields.get("id")
    if found is not None and (not isinstance(found, str) or len(found) > LONGEST_ID):
        raise MalformedField("id", f"expected text of at most {LONGEST_ID} characters")
    return found


def encode(request: Request, answer: Answer) -> Response:
    """An answer → compact JSON, followed by the outputs requested as bytes."""
    asked = request.v2
    assert asked is not None, "a v1 request is answered in v1"
    head: dict[str, Any] = {"model_name": asked.model_name, "model_version": asked.model_version, "id": asked.id}
    head = {name: value for name, value in head.items() if value is not None}
    tensors = [(tensor(name, answer, exact=binary or asked.grpc), binary) for name, binary in asked.outputs]
    if asked.grpc:
        raw = any(binary for _, binary in tensors)
        return Response(_compact(grpc_json.response(head, [tensor for tensor, _ in tensors], raw)), JSON)
    behind = [tensor.in_bytes() for tensor, binary in tensors if binary]
    sizes = iter(map(len, behind))
    outputs = [_output(tensor, next(sizes) if binary else None) for tensor, binary in tensors]
    text = _compact({**head, "outputs": outputs})
    if not behind:
        return Response(text, JSON)
    return Response(b"".join([text, *behind]), BINARY, {HEAD_LENGTH: str(len(text))})


def _output(tensor: Tensor, size: int | None) -> dict[str, Any]:
    """size: of its bytes, if they follow the JSON."""
    content = {"data": tensor.in_json()} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, **content}


def class_bytes(classes: Sequence[tuple[str | None, str]]) -> int:
    """The most bytes of an answer that one class takes. That is over gRPC, where text is base64 in transit.

    classes: (WordNet id, label) for each index, at least one.
    """
    return grpc_json.class_bytes(
        max((label for _, label in classes), key=lambda label: len(label.encode())), len(classes)
    )


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
