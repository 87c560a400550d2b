"""Decides which layers of a program become int8, and which values stay eight bits wide between them.

A layer is a convolution, or a linear layer of (N, in), with the ReLU that follows it. Operators that pass values on
unchanged (max pooling, flattening, concatenation) work on eight bits as well as on real numbers. A value stays in eight
bits if only int8 layers need it; other values are rounded when an int8 layer takes them. Concatenated values share a
scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.artefact.nodes import Node, Ref, Weight, mapped

Shapes = Mapping[int, tuple[int, ...]]

LAYERS = frozenset({"conv2d", "linear"})
POOL = "max_pool2d"
PAD = "int8.pad"  # of the pixels
PASSING = frozenset({POOL, "flatten.using_ints", "view", "permute", "cat"})
SIX = 6.0


@dataclass
class Layer:
    """An int8 layer. node: the layer's. value: the node whose result others use: the layer's own, or its ReLU.

    at_most: the ReLU's upper limit, or None.
    """

    node: int
    value: int
    relu: bool
    at_most: float | None


@dataclass
class Plan:
    """nodes: a program of float operators. layers: by their `value`. bytes: nodes whose results are eight bits wide.

    scale_of: such a node, or one whose result is rounded for an int8 layer → the node that represents its scale.
    """

    nodes: list[Node]
    output: int
    layers: dict[int, Layer]
    bytes: frozenset[int]
    scale_of: dict[int, int] = field(default_factory=dict)

    def input_of(self, layer: Layer) -> int:
        """The node whose result it takes; -1 stands for the pixels."""
        return self.nodes[layer.node].inputs[0]

    def weights_of(self, node: int) -> tuple[str, str]:
        """The names of a layer's weight and bias. It must have both."""
        weight, bias = self.nodes[node].weights
        return weight, bias

    def groups_of(self, node: int) -> int:
        return int(arguments(self.nodes[node])[6]) if self.nodes[node].op == "conv2d" else 1

    def are_pixels(self, index: int) -> bool:
        """Whether a result is the pixels, from 0 to 255, perhaps with a border."""
        return index == -1 or self.nodes[index].op == PAD


def plan(nodes: Sequence[Node], output: int, kinds: frozenset[str] = LAYERS) -> Plan:
    """kinds: the operators that become int8."""
    users = users_of(nodes)
    layers = {layer.value: layer for layer in _layers(nodes, output, users, kinds)}
    inside = {layer.node for layer in layers.values() if layer.node != layer.value}
    apart: set[int] = set()  # concatenations of values with different limits
    while True:
        eight = _bytes(nodes, output, users, layers, apart)
        scale_of = _shared_scales(nodes, eight)
        limits: dict[int, set[float | None]] = defaultdict(set)
        for value in eight & layers.keys():
            limits[scale_of[value]].add(layers[value].at_most)
        mixed = {index for index in eight - layers.keys() if len(limits[scale_of[index]]) > 1} - apart
        if not mixed:
            break
        apart |= {index for index in mixed if nodes[index].op == "cat"}
    for value, layer in list(layers.items()):
        if layer.at_most is not None and value not in eight:  # only a scale can apply the limit
            layers[layer.node] = Layer(layer.node, layer.node, False, None)
            del layers[value]
            inside.discard(layer.node)
    found = Plan(list(nodes), output, layers, frozenset(eight), scale_of)
    for layer in layers.values():
        index = found.input_of(layer)
        if not found.are_pixels(index):
            scale_of.setdefault(index, index)
    return found


def users_of(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """A node → the nodes that need its result, each as often as it uses it."""
    users = defaultdict(list)
    for index, node in enumerate(nodes):
        for each in node.inputs:
            users[each].append(index)
    return users


def relu_first(nodes: Sequence[Node], output: int) -> list[Node]:
    """The ReLU of a max pooling of a layer → the max pooling of its ReLU, which costs an int8 layer nothing."""
    users, changed = users_of(nodes), list(nodes)
    for index, node in enumerate(nodes):
        pool = node.inputs[0] if node.op == "relu" else -1
        if pool >= 0 and nodes[pool].op == POOL and len(users[pool]) == 1 and pool != output:
            before = nodes[pool]
            if before.inputs[0] >= 0 and nodes[before.inputs[0]].op in LAYERS:
                changed[pool] = Node("relu", [Ref(before.inputs[0])], {}, node.place, node.rank)
                changed[index] = Node(POOL, [Ref(pool), *before.args[1:]], before.kwargs, before.place, before.rank)
    return changed


def simplified(nodes: Sequence[Node], output: int, shapes: Shapes) -> tuple[list[Node], int]:
    """Simplifies nodes, given the shape of each result: removes adaptive pooling to the present size, which AlexNet has
    for images of other sizes, and ceil_mode if it makes no difference.
    """
    becomes: dict[int, int] = {}
    renamed: list[Node] = []

    def change(value: Any) -> Any:
        return Ref(becomes.get(value.node, value.node)) if isinstance(value, Ref) else value

    for index, node in enumerate(nodes):
        renamed.append(Node(node.op, mapped(node.args, change), mapped(node.kwargs, change), node.place, node.rank))
        if node.op == "adaptive_avg_pool2d" and shapes[index] == shapes[node.inputs[0]]:
            becomes[index] = renamed[-1].inputs[0]
        if node.op == POOL and not node.kwargs and _has_whole_windows(node, shapes[node.inputs[0]], shapes[index]):
            renamed[-1].args = [*pooling(renamed[-1])[:5], False]
    return renamed, becomes.get(output, output)


def _has_whole_windows(node: Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a max_pool2d has as many windows as it would have without ceil_mode."""
    sizes = ([each[0], each[-1]] for each in pooling(node)[1:5])
    return after[-2:] == tuple(
        (size + 2 * border - apart * (window - 1) - 1) // step + 1
        for size, window, step, border, apart in zip(before[-2:], *sizes, strict=True)
    )


def arguments(node: Node) -> list[Any]:
    """All seven arguments of a conv2d, or all three of a linear."""
    usual = [None, None, None, [1, 1], [0, 0], [1, 1], 1] if node.op == "conv2d" else [None, None, None]
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = [*node.args, *usual[len(node.args) :]]
    for name, value in node.kwargs.items():
        given[names.index(name)] = value
    return [[each[0], each[-1]] if isinstance(each, list) else each for each in given]


def _layers(nodes: Sequence[Node], output: int, users: Mapping[int, list[int]], kinds: frozenset[str]) -> list[Layer]:
    found = []
    for index, node in enumerate(nodes):
        if node.op not in kinds or not isinstance(node.args[0], Ref) or not isinstance(arguments(node)[1], Weight):
            continue
        if node.op == "linear" and node.rank != 2:
            continue
        after = users.get(index, [])
        relu, limit = _relu(nodes[after[0]]) if len(after) == 1 and index != output else (False, None)
        found.append(Layer(index, after[0] if relu else index, relu, limit))
    return found


def _relu(node: Node) -> tuple[bool, float | None]:
    if node.op == "relu":
        return True, None
    is_six = node.op == "relu6" or (node.op == "hardtanh" and [float(each) for each in node.args[1:]] == [0.0, SIX])
    return (True, SIX) if is_six and not node.kwargs else (False, None)


def _bytes(
    nodes: Sequence[Node],
    output: int,
    users: Mapping[int, list[int]],
    layers: Mapping[int, Layer],
    apart: set[int],
) -> set[int]:
    """The largest set of nodes whose results are needed only by int8 layers and nodes of the set."""
    consumers = {layer.node for layer in layers.values()}
    passing = {index for index, node in enumerate(nodes) if _passes(node)} - apart
    eight = ({*layers} | passing) - {output}
    while True:
        wrong = {
            index
            for index in eight
            if not users.get(index)
            or any(user not in consumers and user not in eight for user in users[index])
            or (index in passing and not eight.issuperset(nodes[index].inputs))
        }
        if not wrong:
            return eight
        eight -= wrong


def _passes(node: Node) -> bool:
    if node.op not in PASSING or node.weights or node.kwargs.keys() - {"dim"}:
        return False
    dilation, ceil_mode = pooling(node)[4:] if node.op == POOL else ([1], False)
    return set(dilation) == {1} and not ceil_mode


def pooling(node: Node) -> list[Any]:
    """The six arguments of a max_pool2d."""
    usual = [None, None, [], [0, 0], [1, 1], False]
    given = [*node.args, *usual[len(node.args) :]]
    return [*given[:2], given[2] or given[1], *given[3:]]


def _shared_scales(nodes: Sequence[Node], eight: set[int]) -> dict[int, int]:
    stands_for = {index: index for index in eight}

    def find(index: int) -> int:
        while stands_for[index] != index:
            index = stands_for[index]
        return index

    for index in sorted(eight):
        if nodes[index].op in PASSING:
            for each in nodes[index].inputs:
                first, second = sorted((find(index), find(each)))
                stands_for[second] = first
    return {index: find(index) for index in eight}
