"""Where in a network the last map of the picture is: a result from which on everything hangs on it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vision.model import operators
from vision.model.program import Node, Program, inputs

# Layers that mix places once a map has become a row of tokens: behind such a map is more than pooling and a classifier.
MIXING = frozenset(operators.LAYERS.split()) - {"conv2d", "conv2d.padding", "conv_transpose2d.input"}
POOLS = frozenset(operators.POOLS.split())
BEHIND_A_POOL = POOLS.union(operators.ACTIVATIONS.split())  # packing may have put the activation behind its pooling

IMAGES = 2  # with which a network is tried
FEW_ROWS = 4  # of a map that shows little; one before it is taken, where that has more


@dataclass(frozen=True)
class Layer:
    """A map of the picture.

    node: whose result it is. rows: and as many columns. last: whether channels come after them, (N, rows, columns, C).
    """

    node: int
    rows: int
    channels_last: bool


def last_layer(program: Program, shapes: Sequence[tuple[int, ...]]) -> Layer | None:
    """The last layer with rows and columns; None where there is none behind which only a classifier comes (ViT).

    shapes: of each node's result, as `shape_of` has it, for IMAGES images.

    A map that was pooled shows less than the one before it: AlexNet's are 13 × 13 before, and 6 × 6 after it.
    """
    path = _path(program)
    chosen: Layer | None = None
    for index in reversed(_cuts(program.nodes, path)):
        found = _layer(index, shapes[index])
        if found is None:
            continue
        if any(each > index and _mixes_places(program.nodes[each], shapes[each]) for each in path):
            break
        if chosen is None or found.rows > chosen.rows:
            chosen = found
        if chosen.rows >= FEW_ROWS:
            break
    return _before_pooling(chosen, program.nodes, shapes) if chosen else None


def shape_of(result: Any) -> tuple[int, ...]:
    """Of a tensor; empty for several of them."""
    return tuple(result.shape) if isinstance(result, torch.Tensor) else ()


def _path(program: Program) -> list[int]:
    """The nodes that hang on the images, and on which the logits do; in order."""
    hanging = {-1}
    for index, node in enumerate(program.nodes):
        if not hanging.isdisjoint(inputs(node)):
            hanging.add(index)
    needed = {program.output}
    for index in range(program.output, -1, -1):
        if index in needed:
            needed.update(inputs(program.nodes[index]))
    return sorted((hanging & needed) - {-1})


def _cuts(nodes: list[Node], path: list[int]) -> list[int]:
    """Those of them that nothing goes around: in this order, no node before one is needed by a node after it."""
    last_use: dict[int, int] = {}
    for index in path:
        last_use.update(dict.fromkeys(inputs(nodes[index]), index))
    cuts, furthest = [], last_use.get(-1, 0)
    for index in path:
        if furthest <= index:
            cuts.append(index)
        furthest = max(furthest, last_use.get(index, 0))
    return cuts


def _layer(index: int, shape: tuple[int, ...]) -> Layer | None:
    """Images are square, and so are maps of them."""
    if len(shape) != 4 or shape[0] != IMAGES:  # else parts of an image may count as images
        return None
    if shape[2] == shape[3] > 1:
        return Layer(index, shape[2], channels_last=False)
    if shape[1] == shape[2] > 1:
        return Layer(index, shape[1], channels_last=True)
    return None


def _mixes_places(node: Node, shape: tuple[int, ...]) -> bool:
    return node.op in MIXING and len(shape) > 2 and any(size > 1 for size in shape[1:-1])


def _before_pooling(layer: Layer, nodes: list[Node], shapes: Sequence[tuple[int, ...]]) -> Layer:
    index, found = layer.node, layer
    while nodes[index].op in BEHIND_A_POOL and len(sources := set(inputs(nodes[index]))) == 1:
        is_pool = nodes[index].op in POOLS
        [index] = sources
        before = _layer(index, shapes[index]) if index >= 0 else None
        if before is None or before.channels_last:
            break
        if is_pool:
            found = before
    return found
