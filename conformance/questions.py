"""The requests to send: a user's own --input, or candidates that suit many models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.checking import Failed
from conformance.tensors import Question, Tensor, Text, can_be_made, described, made

PICTURES = tuple(path.read_bytes() for path in sorted((Path(__file__).parent / "pictures").glob("*.jpg")))
WORDS = "good", "bad"
NUMBERS = [6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]  # the flowers of KServe's first example


class BadInput(Exception):
    """An --input that cannot be sent."""


@dataclass(frozen=True)
class Given:
    """A user's file: the body of a predict call, or anything else, such as an image."""

    path: Path
    content: bytes
    body: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path) -> Given:
        """Raises BadInput."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from None
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        return cls(path, content, body if isinstance(body, dict) else None)


def for_v1(given: Sequence[Given], metadata: Mapping[str, Any] | None) -> Iterator[list[Any]]:
    """Instances, one or two at a time, to try until the model accepts one. metadata: v2's, or None."""
    if given:
        yield [instance for each in given for instance in _instances(each)]
        return
    if metadata:
        for questions in for_v2([], metadata):
            if len(questions[0]) == 1 and questions[0][0].datatype != "BYTES":
                yield [_nested(question[0]) for question in questions]
    pictures = [base64.b64encode(picture).decode() for picture in PICTURES]
    yield [{"b64": picture} for picture in pictures]
    yield [{"image": {"b64": picture}} for picture in pictures]
    yield list(NUMBERS)
    yield list(WORDS)


def for_v2(given: Sequence[Given], metadata: Mapping[str, Any]) -> Iterator[list[Question]]:
    """Tensors, for one or two requests at a time, to try until the model accepts one."""
    if given:
        yield [_question(each, metadata) for each in given]
        return
    try:
        inputs = described(metadata, "inputs")
    except Failed:
        return  # a check reports it
    if not inputs or not all(map(can_be_made, inputs)):
        return
    pictures = [Text(base64.b64encode(picture).decode(), picture) for picture in PICTURES]
    words = [Text(word, word.encode()) for word in WORDS]
    # Words first: they are the same in JSON and as raw bytes, for a model that takes any text.
    for texts in (words, pictures) if any(tensor["datatype"] == "BYTES" for tensor in inputs) else (words,):
        yield [tuple(made(tensor, variant, text) for tensor in inputs) for variant, text in enumerate(texts)]


def _instances(given: Given) -> list[Any]:
    if given.body is None:
        return [{"b64": base64.b64encode(given.content).decode()}]
    instances = given.body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise BadInput(f'{given.path}: v1 takes {{"instances": […]}}, or an image')
    return instances


def _question(given: Given, metadata: Mapping[str, Any]) -> Question:
    if given.body is not None:
        try:
            return tuple(map(_tensor, given.body["inputs"]))
        except (LookupError, TypeError):
            raise BadInput(
                f'{given.path}: v2 takes {{"inputs": […]}}, tensors with name, shape, datatype and data, or an image'
            ) from None
    inputs = described(metadata, "inputs")
    if [tensor["datatype"] for tensor in inputs] != ["BYTES"]:
        raise BadInput(f"{given.path}: the model does not take one BYTES tensor: give a JSON body")
    return (made(inputs[0], 0, Text(base64.b64encode(given.content).decode(), given.content)),)


def _tensor(said: Mapping[str, Any]) -> Tensor:
    values = list(_leaves(said["data"]))
    if said["datatype"] == "BYTES":
        values = [Text(value, value.encode()) for value in values]
    return Tensor(said["name"], said["datatype"], tuple(said["shape"]), tuple(values))


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, list):
        for part in data:
            yield from _leaves(part)
    else:
        yield data


def _nested(tensor: Tensor) -> Any:
    """A tensor for one item → its form in v1: nested lists, without the batch dimension."""
    data: list[Any] = list(tensor.values)
    for size in reversed(tensor.shape[2:]):
        data = [data[at : at + size] for at in range(0, len(data), size)]
    return data
