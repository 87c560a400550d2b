"""program.json: a network as a list of operators, read as untrusted input.

    {"format": 1, "side": 224, "output": 68, "nodes": [
      ["conv2d", [{"node": -1}, {"weight": "conv1.weight"}, {"weight": "conv1.folded_bias"}, [2, 2], [3, 3]]],
      ["relu", [{"node": 0}]],
      ["flatten.using_ints", [{"node": 1}, 1]], …

A node is an operator (vision/model/operators.py lists those allowed), its positional arguments in aten's order and, if
any, its keyword arguments. An argument is a number, true, false, null, a word or a list; the result of an earlier node
(-1 means the images); a weight; or {"batch": 3}, three times the number of images.

Images are normalised, floating-point (N, 3, side, side). A program with "input": "uint8" gets pixels instead, and may
use 8-bit operators (vision/model/int8.py).

Each argument is checked against aten's own schema before anything is computed. The schema has no shapes: network.py
checks them by trying the program, within a memory bound.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

import torch

from vision.model import operators

FORMAT = 1
KEYS = {"format", "side", "nodes", "output"}
INPUT, PIXELS = "input", "uint8"

MOST_BYTES = 16 * 2**20  # of program.json; torchvision's largest has 0.4 MB
MOST_NODES = 20_000  # torchvision's largest has 1,300
MOST_SIDE = 4096
LARGEST = 2**31  # of numbers that count something
# Padding of a convolution or pool; torchvision's largest is 3. If there is no memory for the result, oneDNN may end the
# process.
MOST_PADDING, PADDINGS = 64, ("padding", "output_padding")
LONGEST_WORD = 100
MOST_OPERANDS = 2  # of einsum: the size of its intermediate results is unknown with more


@dataclass(frozen=True)
class Ref:
    """The result of a node; -1 means the images."""

    node: int


@dataclass(frozen=True)
class Weight:
    name: str


@dataclass(frozen=True)
class Batch:
    """The number of images times `times`."""

    times: int


@dataclass
class Node:
    """function: computes the node. last: the results that no later node needs."""

    op: str
    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    last: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """side: pixels, of the square images. output: the node with the logits. on_pixels: the input is pixels."""

    side: int
    nodes: list[Node]
    output: int
    on_pixels: bool = False

    @property
    def head(self) -> Node | None:
        """The node with the logits, if it is a linear layer."""
        node = self.nodes[self.output]
        return node if node.op == "linear" else None

    @property
    def head_weights(self) -> set[str]:
        """The names of the head's weights."""
        return _weights(self.head) if self.head else set()

    @property
    def exact_weights(self) -> set[str]:
        """The names of the weights that 8-bit operators use unchanged."""
        return {name for node in self.nodes if node.op.startswith("int8.") for name in _weights(node)}


def read_program(text: bytes, weights: Mapping[str, torch.Tensor]) -> Program:
    """program.json → a program that can be run. weights: by name; only the names matter.

    Raises ValueError, with a sentence, for anything but a network from images to logits.
    """
    said = _load(text)
    if said["format"] != FORMAT or type(said["format"]) is not int:
        raise ValueError(f"format {FORMAT} is expected")
    side = _count(said["side"], 1, MOST_SIDE, "side")
    if not isinstance(said["nodes"], list) or not 1 <= len(said["nodes"]) <= MOST_NODES:
        raise ValueError(f"nodes must be a list of 1 to {MOST_NODES}")
    on_pixels = INPUT in said
    nodes: list[Node] = []
    for index, each in enumerate(said["nodes"]):
        try:
            nodes.append(_node(each, nodes, weights, on_pixels))
        except ValueError as error:
            raise ValueError(f"nodes[{index}]: {error}") from None
    output = _count(said["output"], 0, len(nodes) - 1, "output")
    _note_last_uses(nodes, output)
    return Program(side, nodes, output, on_pixels)


# --- The text ---------------------------------------------------------------------------------------------------------


def _load(text: bytes) -> dict[str, Any]:
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number")

    try:
        said = json.loads(text, parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("it is not JSON") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(said, dict) or said.keys() - {INPUT} != KEYS:
        raise ValueError(f"it must be an object with {', '.join(sorted(KEYS))}")
    if said.get(INPUT, PIXELS) != PIXELS:
        raise ValueError(f"{INPUT}: {json.dumps(PIXELS)} is expected, or nothing")
    return said


def _node(said: Any, earlier: list[Node], weights: Mapping[str, torch.Tensor], on_pixels: bool) -> Node:
    if not isinstance(said, list) or len(said) not in (2, 3) or not isinstance(said[0], str):
        raise ValueError("it must be [operator, arguments] or [operator, arguments, keyword arguments]")
    op, args, kwargs = said[0], said[1], said[2] if len(said) == 3 else {}
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ValueError("its arguments must be a list, and its keyword arguments an object")
    if op == operators.GETITEM:
        return _getitem(args, kwargs, earlier)
    function = operators.find(op, on_pixels)
    schema = function._schema
    if len(args) > len(schema.arguments):
        raise ValueError(f"{op} takes at most {len(schema.arguments)} arguments")
    by_name = {argument.name: argument for argument in schema.arguments[len(args) :]}
    if unknown := sorted(kwargs.keys() - by_name):
        raise ValueError(f"{op} has no other argument {unknown[0][:40]!r}")
    for argument in by_name.values():
        if argument.name not in kwargs and not argument.has_default_value():
            raise ValueError(f"{op} lacks {argument.name}")
    given = {**dict(zip((argument.name for argument in schema.arguments), args)), **kwargs}
    for name, only in operators.ONLY.get(op, {}).items():
        if given.get(name, only) != only:
            raise ValueError(f"{name}: {json.dumps(only)} is expected")
    node = Node(
        op,
        operators.OURS.get(op, function),
        [_argument(value, argument, earlier, weights) for value, argument in zip(args, schema.arguments)],
        {name: _argument(value, by_name[name], earlier, weights) for name, value in kwargs.items()},
    )
    if op == "einsum" and len(given["tensors"]) > MOST_OPERANDS:
        raise ValueError(f"einsum takes {MOST_OPERANDS} tensors here")
    return node


def _getitem(args: list[Any], kwargs: dict[str, Any], earlier: list[Node]) -> Node:
    if len(args) != 2 or kwargs:
        raise ValueError("getitem takes a node and an index")
    return Node(
        operators.GETITEM, operator.getitem, [_ref(args[0], earlier), _count(args[1], 0, LARGEST, "an index")], {}
    )


def _argument(value: Any, argument: Any, earlier: list[Node], weights: Mapping[str, torch.Tensor]) -> Any:
    kind = str(argument.type)
    try:
        checked = _checked(value, kind, earlier, weights)
        numbers = checked if argument.name in PADDINGS and isinstance(checked, list) else []
        if any(type(each) is not int or each > MOST_PADDING for each in numbers):
            raise ValueError(f"numbers of at most {MOST_PADDING} are expected")
        return checked
    except ValueError as error:
        raise ValueError(f"{argument.name}: {error}") from None


def _checked(value: Any, kind: str, earlier: list[Node], weights: Mapping[str, torch.Tensor]) -> Any:
    """kind: of aten's schema, such as Optional[List[int]]."""
    if kind.startswith("Optional["):
        return None if value is None else _checked(value, kind[len("Optional[") : -1], earlier, weights)
    if kind.startswith("List["):
        if isinstance(value, list) and len(value) <= MOST_NODES:
            return [_checked(each, kind[len("List[") : -1], earlier, weights) for each in value]
    elif kind == "Tensor":
        return _tensor(value, earlier, weights)
    elif kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "str":
        if isinstance(value, str) and len(value) <= LONGEST_WORD:
            return value
    elif kind == "int" and isinstance(value, dict):
        if value.keys() == {"batch"}:
            return Batch(_count(value["batch"], 1, LARGEST, "batch"))
    elif kind in ("int", "float", "number") and _is_number(value, whole=kind == "int"):
        return value
    raise ValueError(f"{kind} is expected")


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # The largest 64-bit integer is the end of a slice.
    return abs(value) <= LARGEST or value == 2**63 - 1 if isinstance(value, int) else not whole and math.isfinite(value)


def _tensor(value: Any, earlier: list[Node], weights: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict) and value.keys() == {"weight"}:
        if not isinstance(value["weight"], str) or value["weight"] not in weights:
            raise ValueError("there is no such weight")
        return Weight(value["weight"])
    return _ref(value, earlier)


def _ref(value: Any, earlier: list[Node]) -> Ref:
    if not isinstance(value, dict) or value.keys() != {"node"}:
        raise ValueError("a node or a weight is expected")
    return Ref(_count(value["node"], -1, len(earlier) - 1, "node"))


def _count(value: Any, least: int, most: int, name: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")
    return value


# --- The whole --------------------------------------------------------------------------------------------------------


def inputs(node: Node) -> list[int]:
    """The nodes whose results it needs, each as often as it is mentioned."""
    values = [*node.args, *node.kwargs.values()]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [each.node for each in flat if isinstance(each, Ref)]


def _weights(node: Node) -> set[str]:
    """The names of the weights that are arguments themselves, not in a list."""
    return {each.name for each in (*node.args, *node.kwargs.values()) if isinstance(each, Weight)}


def _note_last_uses(nodes: list[Node], output: int) -> None:
    """A result is released after the last node that needs it, or at once if none does."""
    last = {index: index for index in range(len(nodes))}
    for index, node in enumerate(nodes):
        last.update(dict.fromkeys(inputs(node), index))
    for result, index in last.items():
        if result != output:
            nodes[index].last.append(result)


def apply(node: Node, results: Mapping[int, Any], weights: Mapping[str, torch.Tensor], count: int) -> Any:
    """The node's result from earlier results, for `count` images. Raises whatever torch raises."""
    given = results, weights, count
    return node.function(
        *[_value(each, *given) for each in node.args],
        **{name: _value(each, *given) for name, each in node.kwargs.items()},
    )


def _value(said: Any, results: Mapping[int, Any], weights: Mapping[str, torch.Tensor], count: int) -> Any:
    """Not nested in `apply`: a recursive closure would keep the results alive until garbage collection."""
    if isinstance(said, Ref):
        return results[said.node]
    if isinstance(said, Weight):
        return weights[said.name]
    if isinstance(said, Batch):
        return said.times * count
    return [_value(each, results, weights, count) for each in said] if isinstance(said, list) else said
