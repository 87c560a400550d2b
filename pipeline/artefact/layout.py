"""What a state dict of a network has: the names of its weights and their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int | None, ...]
Shapes = Mapping[str, Shape]

# A network is built with so many classes, and where a shape has this number, it is the number of classes. It is a
# prime, so no product of widths and heads; and nobody's number of channels.
MARK = 1009

# Heads that train GoogLeNet and Inception v3 and take no part in their answers.
UNUSED = re.compile(r"(aux1|aux2|AuxLogits)\.")


@dataclass(frozen=True)
class Layout:
    """shapes: names → shapes, with None where the number of classes stands; the floating-point ones alone.

    Whole numbers (counters of batches, tables of positions) usually follow from the architecture: a file may be without
    them.
    """

    shapes: dict[str, Shape]
    whole_numbers: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, network: nn.Module) -> Layout:
        """network: built with MARK classes, wherever that can be told."""
        state = network.state_dict()
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        shapes = {name: tuple(None if size == MARK else size for size in floats[name].shape) for name in floats}
        return cls(shapes, {name: tuple(state[name].shape) for name in state if name not in floats})

    def may_have(self, name: str) -> bool:
        """Whether a file may have this beside the weights: a network needs it from no file."""
        return name in self.whole_numbers or (UNUSED.match(name) is not None and name not in self.shapes)

    def classes(self, state: Mapping[str, torch.Tensor | object]) -> set[int]:
        """The numbers of classes that a state dict has: one, where it is whole."""
        found = set()
        for name, expected in self.shapes.items():
            shape = getattr(state.get(name), "shape", ())
            if None in expected and len(shape) == len(expected):
                found |= {size for size, known in zip(shape, expected, strict=True) if known is None}
        return found


def matches(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether a shape is the expected one, with any number of classes."""
    return len(shape) == len(expected) and all(
        known in (size, None) for size, known in zip(shape, expected, strict=True)
    )
