"""KServe v2 over gRPC, as it arrives from the front door's transcoder: messages in proto3's JSON.

ModelInferRequest → the same as a REST request; an answer's tensors → ModelInferResponse. In proto3's JSON, an int64 is
a string, bytes are base64, and a parameter is an object: {"top_k": {"int64_param": "5"}}.
https://protobuf.dev/programming-guides/json, and grpc_predict_v2.proto of KServe's open-inference-protocol.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from vision.base64_bytes import b64encode, strict
from vision.errors import MalformedField
from vision.protocol.input_tensor import SIZE
from vision.protocol.outputs import Tensor
from vision.protocol.sent import Sent

INTEGER = re.compile(r"-?[0-9]{1,19}")
INTEGER_PARAMETERS, OTHER_PARAMETERS = ("int64_param", "uint64_param"), ("bool_param", "string_param", "double_param")
RAW = "raw_input_contents"
CONTENTS = {"BYTES": "bytes_contents", "INT64": "int64_contents", "FP32": "fp32_contents"}


def as_rest(body: dict[str, object]) -> Sent:
    """Raises MalformedField (400) for malformed or duplicate bytes. Other errors are left for later checks."""
    fields = _with_parameters(body)
    if not fields.get("id"):  # in proto3, a missing string is an empty one
        fields.pop("id", None)
    outputs, inputs, raw = body.get("outputs"), body.get("inputs"), body.get(RAW)
    if isinstance(outputs, list):
        fields["outputs"] = [_with_parameters(output) if isinstance(output, dict) else output for output in outputs]
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return Sent(fields, grpc=True)
    tensor = {"name": "", **_with_parameters(inputs[0])}
    fields["inputs"] = [tensor]
    if isinstance(tensor.get("shape"), list):
        tensor["shape"] = list(map(_number, tensor["shape"]))
    said = tensor.get("parameters")
    tensor["parameters"] = said = {**said} if isinstance(said, dict) else {}
    said.pop(SIZE, None)  # sent by clients that use one code path for all protocols
    contents = tensor.pop("contents", None) or {}
    if not raw:
        return _with_contents(fields, tensor, contents)
    if contents:
        raise MalformedField("inputs[0].contents", f"given together with {RAW}: send one of them")
    if not isinstance(raw, list) or len(raw) != 1:
        raise MalformedField(RAW, "expected one entry, for the one tensor")
    behind = memoryview(_bytes(raw[0], f"{RAW}[0]"))
    said[SIZE] = len(behind)
    return Sent(fields, behind, f"{RAW}[0]", grpc=True)


def _with_contents(fields: dict[str, object], tensor: dict[str, Any], contents: object) -> Sent:
    field = "uint_contents" if tensor.get("datatype") == "UINT8" else CONTENTS["BYTES"]
    place = f"inputs[0].contents.{field}"
    values = contents.get(field) if isinstance(contents, dict) else None
    if not isinstance(values, list):
        raise MalformedField(place, f"is missing, and so is {RAW}")
    if field == CONTENTS["BYTES"]:
        values = [_bytes(value, f"{place}[{index}]") for index, value in enumerate(values)]
    tensor["data"] = values
    return Sent(fields, None, place, grpc=True)


def response(head: dict[str, Any], tensors: list[Tensor], raw: bool) -> dict[str, Any]:
    """raw: whether the tensors' bytes are separate, as they were in the request."""
    outputs = []
    for tensor in tensors:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(map(str, tensor.shape)),
        }
        if not raw:
            output["contents"] = {CONTENTS[tensor.datatype]: _values(tensor)}
        outputs.append(output)
    contents = {"raw_output_contents": [b64encode(tensor.in_bytes()).decode() for tensor in tensors]} if raw else {}
    return {**head, "outputs": outputs, **contents}


def _values(tensor: Tensor) -> list[Any]:
    if tensor.datatype == "BYTES":
        return [b64encode(value if isinstance(value, bytes) else value.encode()).decode() for value in tensor.values]
    return list(map(str, tensor.values)) if tensor.datatype == "INT64" else [float(f"{v:.9g}") for v in tensor.values]


def class_bytes(label: str, index: int) -> int:
    """The most bytes that one class takes in an answer: its label in base64, its index, and a float32."""
    return (len(label.encode()) + 2) // 3 * 4 + len(str(index)) + len('"","",-1.23456789e-45,')


def _with_parameters(message: dict[str, Any]) -> dict[str, Any]:
    found = message.get("parameters")
    if not isinstance(found, dict):
        return {**message}
    return {**message, "parameters": {name: _parameter(value) for name, value in found.items()}}


def _parameter(value: object) -> object:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind in INTEGER_PARAMETERS:
        return _number(inner)
    return inner if kind in OTHER_PARAMETERS else value


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and INTEGER.fullmatch(value) else value


def _bytes(value: object, place: str) -> bytes:
    if isinstance(value, str):
        with suppress(ValueError):
            return strict(value)
    raise MalformedField(place, "expected bytes, as base64")
