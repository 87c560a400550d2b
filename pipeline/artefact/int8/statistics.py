"""Statistics of a network on photographs: the ranges of its values, their scales, and its layers' mean inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from pipeline.artefact.int8.evaluation import Watch, dequantize, quantize
from pipeline.artefact.int8.plan import Plan
from pipeline.artefact.int8.rounding import scale_and_zero_point, scale_up_to
from pipeline.artefact.model import Preprocessing

Run = Callable[[Watch], None]  # calls a watch with the results for all photographs
Ranges = dict[int, tuple[torch.Tensor, torch.Tensor]]
Scales = dict[int, tuple[float, int]]

BATCH = 8


def batches(pixels: np.ndarray) -> Iterator[torch.Tensor]:
    """uint8 (N, side, side, 3) → float64 (a few, 3, side, side)."""
    for start in range(0, len(pixels), BATCH):
        yield torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2).double()


def normalised(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """The float network's input."""
    mean, std = (
        torch.tensor(each, dtype=torch.float64).view(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std)
    )
    return (pixels / 255 - mean) / std


def ranges_of(run: Run, plan: Plan) -> Ranges:
    """The minimum and maximum of each channel of the rounded values: the layers' outputs and inputs."""
    found: Ranges = {}

    def watch(index: int, result: torch.Tensor) -> None:
        if _is_rounded(plan, index):
            least, most = result.amin(dim=_but_channels(result)), result.amax(dim=_but_channels(result))
            before = found.get(index, (least, most))
            found[index] = torch.minimum(before[0], least), torch.maximum(before[1], most)

    run(watch)
    return found


def scales_of(plan: Plan, ranges: Ranges) -> Scales:
    """Scales and zero points, by the node that represents all that share them."""
    ends: dict[int, tuple[float, float]] = {}
    for index, (least, most) in ranges.items():
        low, high = ends.get(plan.scale_of[index], (0.0, 0.0))
        ends[plan.scale_of[index]] = min(low, float(least.min())), max(high, float(most.max()))
    found = {key: scale_and_zero_point(*each) for key, each in ends.items()}
    for value in plan.bytes & plan.layers.keys():
        limit, (scale, _) = plan.layers[value].at_most, found[plan.scale_of[value]]
        if limit is not None:
            found[plan.scale_of[value]] = min(scale, scale_up_to(limit)), 0
    return found


class Taken:
    """A layer's input at each place, averaged over photographs. rounded: the same in eight bits."""

    def __init__(self) -> None:
        self.real = self.rounded = torch.zeros((), dtype=torch.float64)
        self._count = 0

    def add(self, real: torch.Tensor, rounded: torch.Tensor) -> None:
        """Adds the inputs for a few photographs."""
        before, self._count = self._count, self._count + len(real)
        self.real = (self.real * before + real.sum(dim=0)) / self._count
        self.rounded = (self.rounded * before + rounded.sum(dim=0)) / self._count


def taken_by_layers(run: Run, plan: Plan, scales: Scales) -> dict[int, Taken]:
    """The layers' mean inputs, by the node that computes them."""
    found = {plan.input_of(layer): Taken() for layer in plan.layers.values()}

    def watch(index: int, result: torch.Tensor) -> None:
        if index in found:
            scale = scales.get(plan.scale_of.get(index, -1))
            found[index].add(result, dequantize(quantize(result, *scale), *scale) if scale else result)

    run(watch)
    return found


def _is_rounded(plan: Plan, index: int) -> bool:
    """Values that are only passed on do not count: they are within the range of their source."""
    return index in plan.scale_of and (index in plan.layers or index not in plan.bytes)


def _but_channels(result: torch.Tensor) -> list[int]:
    return [axis for axis in range(result.dim()) if axis != 1]
