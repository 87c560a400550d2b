"""Finds the last map of the picture in a network: a result on which everything after it depends alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vision.model import operators
from vision.model.program import Node, Program, inputs

# Layers that mix positions once a map is a row of tokens: if one follows, the map is not the last spatial step.
MIXING = frozenset(operators.LAYERS.split()) - {"conv2d", "conv2d.padding", "conv_transpose2d.input"}
POOLS = frozenset(operators.POOLS.split())
BEHIND_A_POOL = POOLS.union(operators.ACTIVATIONS.split())  # packing may have moved the activation after the pooling

IMAGES = 2  # in the batch that tries out a network
FEW_ROWS = 4  # a map with fewer shows little; an earlier one with more is preferred


@dataclass(frozen=True)
class Layer:
    """A map of the picture.

    node: its result is the map. rows: their number, and that of the columns. channels_last: (N, rows, columns, C).
    """

    node: int
    rows: int
    channels_last: bool


def last_layer(program: Program, shapes: Sequence[tuple[int, ...]]) -> Layer | None:
    """The last layer with rows and columns that only a classifier follows; None if there is none (ViT).

    shapes: of each node's result, as returned by `shape_of`, for IMAGES images.

    Pooling makes a map coarser: AlexNet's is 13 × 13 before and 6 × 6 after it.
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
    """The shape of a tensor; empty for several tensors."""
    return tuple(result.shape) if isinstance(result, torch.Tensor) else ()


def _path(program: Program) -> list[int]:
    """The nodes between the images and the logits, in order."""
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
    """The nodes that nothing bypasses: no later node needs a result from before them."""
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
    """Images are square, and so are their maps."""
    if len(shape) != 4 or shape[0] != IMAGES:  # otherwise parts of an image may be mistaken for images
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
