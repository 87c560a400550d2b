"""The layout of a network's state dict: the names of its weights and their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int | None, ...]
Shapes = Mapping[str, Shape]

# A network is built with this many classes, so that in its shapes this number means the number of classes. It is a
# prime, so it is no product of widths and heads, and it is nobody's number of channels.
MARK = 1009

# Heads that help to train GoogLeNet and Inception v3 but take no part in their answers.
UNUSED = re.compile(r"(aux1|aux2|AuxLogits)\.")


@dataclass(frozen=True)
class Layout:
    """shapes: names → shapes, with None for the number of classes; only of floating-point tensors.

    Whole numbers (counters of batches, tables of positions) usually follow from the architecture: a file may lack
    them.
    """

    shapes: dict[str, Shape]
    whole_numbers: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, network: nn.Module) -> Layout:
        """network: built with MARK classes, if its number of classes can be chosen."""
        state = network.state_dict()
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        shapes = {name: tuple(None if size == MARK else size for size in floats[name].shape) for name in floats}
        return cls(shapes, {name: tuple(state[name].shape) for name in state if name not in floats})

    def may_have(self, name: str) -> bool:
        """Whether a file may have this in addition to the weights, although the network does not need it."""
        return name in self.whole_numbers or (UNUSED.match(name) is not None and name not in self.shapes)

    def classes(self, state: Mapping[str, torch.Tensor | object]) -> set[int]:
        """The numbers of classes in a state dict: exactly one if it is consistent."""
        found = set()
        for name, expected in self.shapes.items():
            shape = getattr(state.get(name), "shape", ())
            if None in expected and len(shape) == len(expected):
                found |= {size for size, known in zip(shape, expected, strict=True) if known is None}
        return found


def matches(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether a shape is the expected one, for any number of classes."""
    return len(shape) == len(expected) and all(
        known in (size, None) for size, known in zip(shape, expected, strict=True)
    )
