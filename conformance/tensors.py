"""Tensors of the Open Inference Protocol: made from metadata, and converted to and from JSON and raw bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conformance.checking import Failed, must

# https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
# and struct's format for one element, little-endian; BF16 is a later addition that the standard library does not know.
FORMATS = {"BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}
FORMATS |= {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}
DATATYPES = {*FORMATS, "BYTES"}
MOST_ELEMENTS = 4_000_000  # of a made-up tensor: 1280 × 1024 pixels in three colours
FREE_DIMENSION = 8  # the size of a variable dimension other than the batch's


@dataclass(frozen=True)
class Text:
    """An element of a BYTES tensor. JSON has no form for bytes: an image is base64 there."""

    in_json: str
    raw: bytes


@dataclass(frozen=True)
class Tensor:
    """values: flat, in row-major order: numbers, booleans, or Text in tensors to be sent."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"

    def head(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def to_json(self) -> dict[str, Any]:
        data = [value.in_json if isinstance(value, Text) else value for value in self.values]
        return {**self.head(), "data": data}

    def to_raw(self) -> bytes:
        """As in the binary extension, and in gRPC's raw contents."""
        if self.datatype == "BYTES":
            return b"".join(struct.pack("<I", len(value.raw)) + value.raw for value in self.values)
        return struct.pack(f"<{len(self.values)}{FORMATS[self.datatype]}", *self.values)

    def rows(self) -> list[list[Any]]:
        """Its part for each item along the first dimension: one if it has no dimension, none if it is empty."""
        if not self.values:
            return []
        count = self.shape[0] if self.shape else 1
        width = len(self.values) // count
        return [list(self.values[at * width : (at + 1) * width]) for at in range(count)]


Question = tuple[Tensor, ...]  # one item, for each of a model's inputs


def stacked(questions: Sequence[Question]) -> Question:
    """A batch of questions, along the first dimension."""
    return tuple(
        replace(
            parts[0],
            shape=(sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
            values=tuple(value for part in parts for value in part.values),
        )
        for parts in zip(*questions, strict=True)
    )


def can_be_made(described: Mapping[str, Any]) -> bool:
    """Whether `made` can make one: a known datatype, not empty, and not enormous."""
    return described["datatype"] in DATATYPES and 0 < math.prod(_shape(described)) <= MOST_ELEMENTS


def _shape(described: Mapping[str, Any]) -> list[int]:
    """A variable first dimension is a batch of one."""
    shape = list(described["shape"])
    if shape and shape[0] == -1:
        shape[0] = 1
    return [FREE_DIMENSION if dimension == -1 else dimension for dimension in shape]


def made(described: Mapping[str, Any], variant: int, text: Text) -> Tensor:
    """A tensor from a model's metadata. variant: 0 or 1, for different values."""
    shape, datatype = _shape(described), described["datatype"]
    values = tuple(_value(datatype, at, variant, text) for at in range(math.prod(shape)))
    return Tensor(described["name"], datatype, tuple(shape), values)


def _value(datatype: str, at: int, variant: int, text: Text) -> Any:
    """Small numbers, which every type has and most models accept. The variants differ at every place."""
    if datatype == "BYTES":
        return text
    number = (at + 1 + 3 * variant) % 7
    if datatype == "BOOL":
        return (at + variant) % 2 == 0
    return number / 8 if datatype.startswith("FP") else number


def described(metadata: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    """The `inputs` or `outputs` in a model's metadata. Raises Failed if they violate the protocol."""
    tensors = metadata.get(side)
    must(isinstance(tensors, list), f'"{side}": a list of tensors', tensors)
    assert isinstance(tensors, list)
    for tensor in tensors:
        fine = (
            isinstance(tensor, dict)
            and isinstance(tensor.get("name"), str)
            and tensor.get("datatype") in {*DATATYPES, "BF16"}
            and isinstance(tensor.get("shape"), list)
            and all(type(size) is int and size >= -1 for size in tensor["shape"])
        )
        must(fine, f'each of "{side}" with a name, a datatype of the protocol and a shape (-1: variable)', tensor)
    return tensors


def takes_batches(metadata: Mapping[str, Any]) -> bool:
    """Whether the first dimension of each input is variable, or unknown. Raises Failed as `described`."""
    shapes = [tensor["shape"] for tensor in described(metadata, "inputs")] if metadata.get("inputs") else []
    return all(shape and shape[0] == -1 for shape in shapes)


def from_json(output: Any) -> Tensor:
    """An output in an answer. Raises Failed if it violates the protocol."""
    tensor = _head(output)
    must(isinstance(output.get("data"), list), 'an output with "data", a list', _shown(output))
    values = tuple(_flat(output["data"]))
    must(
        len(values) == math.prod(tensor.shape),
        f"as many elements as the shape {list(tensor.shape)} says",
        f"{len(values)} in {tensor.name!r}",
    )
    return replace(tensor, values=values)


def from_raw(output: Any, raw: bytes) -> Tensor:
    """The same with raw contents. BYTES are read as text if they are UTF-8, as in JSON."""
    tensor = _head(output)
    expected = f"raw contents of {tensor.name!r} as its shape {list(tensor.shape)} and {tensor.datatype} say"
    if tensor.datatype == "BYTES":
        values = tuple(_elements(raw, expected))
    else:
        must(tensor.datatype in FORMATS, "a datatype of the protocol", tensor.datatype)
        size = struct.calcsize(FORMATS[tensor.datatype])
        must(len(raw) % size == 0, expected, f"{len(raw)} bytes")
        values = struct.unpack(f"<{len(raw) // size}{FORMATS[tensor.datatype]}", raw)
    must(len(values) == math.prod(tensor.shape), expected, f"{len(values)} elements")
    return replace(tensor, values=values)


def agree(metadata: Mapping[str, Any], answered: Sequence[Tensor]) -> None:
    """Raises Failed if the outputs of an answer are not those that the metadata describes."""
    promised = {tensor["name"]: tensor for tensor in described(metadata, "outputs")}
    names = [tensor.name for tensor in answered]
    must(sorted(names) == sorted(promised), f"the outputs of the metadata, {sorted(promised)}", names)
    for tensor in answered:
        said = promised[tensor.name]
        must(said["datatype"] == tensor.datatype, f"{tensor.name!r} as {said['datatype']}", tensor.datatype)
        fits = len(said["shape"]) == len(tensor.shape) and all(
            size in (-1, real) for size, real in zip(said["shape"], tensor.shape, strict=True)
        )
        must(fits, f"{tensor.name!r} of the shape {said['shape']}", list(tensor.shape))


def alike(one: Any, other: Any) -> bool:
    """Whether answers are equal. Fractions may differ by a hundredth: batches of other sizes sum in another order."""
    if isinstance(one, float) or isinstance(other, float):
        return (
            isinstance(one, (int, float))
            and isinstance(other, (int, float))
            and math.isclose(one, other, rel_tol=0.01, abs_tol=1e-6)
        )
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _head(output: Any) -> Tensor:
    fine = (
        isinstance(output, dict)
        and isinstance(output.get("name"), str)
        and isinstance(output.get("datatype"), str)
        and isinstance(output.get("shape"), list)
        and all(type(size) is int and size >= 0 for size in output["shape"])
    )
    must(fine, "an output with a name, a shape and a datatype", _shown(output))
    return Tensor(output["name"], output["datatype"], tuple(output["shape"]), ())


def _shown(output: Any) -> str:
    text = str(output)
    return text if len(text) < 120 else f"{text[:120]}…"


def _flat(data: Any) -> Iterator[Any]:
    """The protocol allows data that is nested like the shape, or flat."""
    if isinstance(data, list):
        for part in data:
            yield from _flat(part)
    else:
        yield data


def _elements(raw: bytes, expected: str) -> Iterator[Any]:
    at = 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise Failed(f"expected {expected}; got {len(raw)} bytes that end within a length")
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        must(end <= len(raw), expected, f"an element that would end at byte {end} of {len(raw)}")
        element = raw[at + 4 : end]
        try:
            yield element.decode()
        except UnicodeDecodeError:
            yield element
        at = end
