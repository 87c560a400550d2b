"""A node of a program: an operator and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ref:
    """The result of a node; -1 stands for the images."""

    node: int


@dataclass(frozen=True)
class Weight:
    name: str


@dataclass(frozen=True)
class Batch:
    """A multiple of the number of images."""

    times: int


@dataclass
class Node:
    """op: aten's name, such as `conv2d`, or `add.Tensor` for an overload. place: FILE:LINE of the network's code.

    rank: the number of dimensions of its result, if that is one tensor.
    """

    op: str
    args: list[Any]
    kwargs: dict[str, Any]
    place: str = ""
    rank: int = 0

    @property
    def inputs(self) -> list[int]:
        return [value.node for value in flat([self.args, self.kwargs]) if isinstance(value, Ref)]

    @property
    def weights(self) -> list[str]:
        return [value.name for value in flat([self.args, self.kwargs]) if isinstance(value, Weight)]

    def to_json(self) -> list[Any]:
        return [self.op, _to_json(self.args), *([_to_json(self.kwargs)] if self.kwargs else [])]


def flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [inner for each in value for inner in flat(each)]
    if isinstance(value, dict):
        return flat(list(value.values()))
    return [value]


def _to_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: _to_json(each) for key, each in value.items()}
    match value:
        case Ref(node):
            return {"node": node}
        case Weight(name):
            return {"weight": name}
        case Batch(times):
            return {"batch": times}
    return value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [mapped(each, change) for each in value]
    if isinstance(value, dict):
        return {key: mapped(each, change) for key, each in value.items()}
    return change(value)
