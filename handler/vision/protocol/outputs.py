"""KServe v2's outputs: which are asked for, and what is in them."""

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
EXPLAINED, HEAT_MAP = "explained", "heat_map"  # [n], and [n] or, of a grid, [n, rows, columns]
NAMES = {Verb.PREDICT: (LABEL, INDEX, PROBABILITY), Verb.EXPLAIN: (LABEL, INDEX, PROBABILITY, EXPLAINED, HEAT_MAP)}
BINARY = "binary_data"


@dataclass(frozen=True)
class Tensor:
    """Of an answer. values: all of them, in rows: text or bytes of BYTES, int of INT64, float of FP32."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]

    def in_json(self) -> list[Any]:
        """As JSON has them: bytes in base64, probabilities as v1 writes them."""
        return [b64encode(value).decode() if isinstance(value, bytes) else value for value in self.values]

    def in_bytes(self) -> bytes:
        """As they stand behind the JSON."""
        if self.datatype == "BYTES":
            texts = [value if isinstance(value, bytes) else value.encode() for value in self.values]
            return b"".join(chain.from_iterable((struct.pack("<I", len(text)), text) for text in texts))
        return np.array(self.values, "<i8" if self.datatype == "INT64" else "<f4").tobytes()


def wanted(outputs: object, verb: Verb, binary: bool) -> tuple[tuple[str, bool], ...]:
    """The names that a request asks for, all where it asks for none; and whether each goes behind the JSON.

    binary: for those that say nothing of it. Raises MalformedField (400).
    """
    names = NAMES[verb]
    there = f"{', '.join(names[:-1])} and {names[-1]} are there"
    if outputs is None or outputs == []:
        return tuple((name, binary) for name in names)
    if not isinstance(outputs, list):
        raise MalformedField("outputs", "expected a list")
    if len(outputs) > len(names):
        raise MalformedField("outputs", f"are more than there are: {there}")
    found: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        place = f"outputs[{index}]"
        if not isinstance(output, dict):
            raise MalformedField(place, f'expected an object: {{"name": "{LABEL}"}}')
        name, said = output.get("name"), parameters(output, place)
        if name not in names:
            raise MalformedField(f"{place}.name", f"no such output: {there}")
        if name in found:
            raise MalformedField(f"{place}.name", "comes twice")
        if said.get("classification"):  # Triton's extension
            raise MalformedField(
                f"{place}.parameters", "classification is not taken: parameters.top_k of the request is"
            )
        found[name] = flag(said, BINARY, f"{place}.parameters", binary)
    return tuple(found.items())


def flag(parameters: dict[str, object], name: str, place: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedField(f"{place}.{name}", "expected true or false")
    return value


def tensor(name: str, answer: Answer, exact: bool) -> Tensor:
    """exact: whether a probability is the float32 that it is, or as JSON has it."""
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
