"""KServe v2's outputs: which ones are requested, and their content."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from vision.base64_bytes import b64encode
from vision.errors import MalformedField
from vision.protocol.answer import Answer
from vision.protocol.input_tensor import parameters
from vision.protocol.request import Verb

LABEL, INDEX, PROBABILITY = "label", "index", "probability"  # each [n, k]
EXPLAINED, HEAT_MAP = "explained", "heat_map"  # [n]; and [n], or [n, rows, columns] for a grid
NAMES = {Verb.PREDICT: (LABEL, INDEX, PROBABILITY), Verb.EXPLAIN: (LABEL, INDEX, PROBABILITY, EXPLAINED, HEAT_MAP)}
BINARY = "binary_data"


@dataclass(frozen=True)
class Tensor:
    """A tensor of an answer. values: in row-major order; str or bytes for BYTES, int for INT64, float for FP32."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]

    def in_json(self) -> list[Any]:
        """The values in JSON: bytes as base64, probabilities as in v1."""
        return [b64encode(value).decode() if isinstance(value, bytes) else value for value in self.values]

    def in_bytes(self) -> bytes:
        """The values as bytes after the JSON."""
        if self.datatype == "BYTES":
            texts = [value if isinstance(value, bytes) else value.encode() for value in self.values]
            return b"".join(chain.from_iterable((struct.pack("<I", len(text)), text) for text in texts))
        return np.array(self.values, "<i8" if self.datatype == "INT64" else "<f4").tobytes()


def wanted(outputs: object, verb: Verb, binary: bool) -> tuple[tuple[str, bool], ...]:
    """The names of the requested outputs (all, if none are named), and whether each follows the JSON as bytes.

    binary: the default for outputs that do not say. Raises MalformedField (400).
    """
    names = NAMES[verb]
    there = f"the model has {', '.join(names[:-1])} and {names[-1]}"
    if outputs is None or outputs == []:
        return tuple((name, binary) for name in names)
    if not isinstance(outputs, list):
        raise MalformedField("outputs", "expected a list")
    if len(outputs) > len(names):
        raise MalformedField("outputs", f"too many: {there}")
    found: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        place = f"outputs[{index}]"
        if not isinstance(output, dict):
            raise MalformedField(place, f'expected an object: {{"name": "{LABEL}"}}')
        name, said = output.get("name"), parameters(output, place)
        if name not in names:
            raise MalformedField(f"{place}.name", f"no such output: {there}")
        if name in found:
            raise MalformedField(f"{place}.name", "is given twice")
        if said.get("classification"):  # Triton's extension
            raise MalformedField(
                f"{place}.parameters", "classification is not supported: use the request's parameters.top_k"
            )
        found[name] = flag(said, BINARY, f"{place}.parameters", binary)
    return tuple(found.items())


def flag(parameters: dict[str, object], name: str, place: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedField(f"{place}.{name}", "expected true or false")
    return value


def tensor(name: str, answer: Answer, exact: bool) -> Tensor:
    """exact: whether probabilities are full float32 values, or rounded as in JSON."""
    count = len(answer.predictions)
    if name == EXPLAINED:
        return Tensor(name, "INT64", [count], [explanation.explained.index for explanation in answer.explanations])
    if name == HEAT_MAP:
        return _heat_map(answer)
    found = [scored for prediction in answer.predictions for scored in prediction.classes]
    shape = [count, len(found) // count]
    if name == LABEL:
        return Tensor(name, "BYTES", shape, [scored.label for scored in found])
    if name == INDEX:
        return Tensor(name, "INT64", shape, [scored.index for scored in found])
    values = [scored.probability if exact else scored.written_probability for scored in found]
    return Tensor(name, "FP32", shape, values)


def _heat_map(answer: Answer) -> Tensor:
    contents: list[Any] = [explanation.content for explanation in answer.explanations]
    if isinstance(contents[0], bytes):
        return Tensor(HEAT_MAP, "BYTES", [len(contents)], contents)
    shape = [len(contents), len(contents[0]), len(contents[0][0])]
    return Tensor(HEAT_MAP, "FP32", shape, [value for grid in contents for row in grid for value in row])
