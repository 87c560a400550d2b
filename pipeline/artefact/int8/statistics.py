"""What a network makes of photographs: the ranges of its values, how they are spread, and what its layers take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from pipeline.artefact.int8.evaluation import Watch, dequantize, quantize
from pipeline.artefact.int8.plan import Plan
from pipeline.artefact.int8.rounding import Histogram
from pipeline.artefact.model import Preprocessing

Run = Callable[[Watch], None]  # shows a watch what all photographs become
Ranges = dict[int, tuple[torch.Tensor, torch.Tensor]]
Scales = dict[int, tuple[float, int]]

BATCH = 8


def batches(pixels: np.ndarray) -> Iterator[torch.Tensor]:
    """uint8 (N, side, side, 3) → float64 (a few, 3, side, side)."""
    for start in range(0, len(pixels), BATCH):
        yield torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2).double()


def normalised(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """As the float network sees them."""
    mean, std = (
        torch.tensor(each, dtype=torch.float64).view(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std)
    )
    return (pixels / 255 - mean) / std


def ranges_of(run: Run, plan: Plan) -> Ranges:
    """The least and the most of each channel of what is rounded: what layers make, and what they take."""
    found: Ranges = {}

    def watch(index: int, result: torch.Tensor) -> None:
        if _is_rounded(plan, index):
            least, most = result.amin(dim=_but_channels(result)), result.amax(dim=_but_channels(result))
            before = found.get(index, (least, most))
            found[index] = torch.minimum(before[0], least), torch.maximum(before[1], most)

    run(watch)
    return found


def scales_of(run: Run, plan: Plan, ranges: Ranges) -> Scales:
    """Scale and zero point of all that share them, by the node that stands for them."""
    ends: dict[int, tuple[float, float]] = {}
    for index, (least, most) in ranges.items():
        low, high = ends.get(plan.scale_of[index], (0.0, 0.0))
        ends[plan.scale_of[index]] = min(low, float(least.min())), max(high, float(most.max()))
    spreads = {key: Histogram(*each) for key, each in ends.items()}

    def watch(index: int, result: torch.Tensor) -> None:
        if _is_rounded(plan, index):
            spreads[plan.scale_of[index]].add(result)

    run(watch)
    limits = {plan.scale_of[value]: layer.at_most for value, layer in plan.layers.items() if value in plan.bytes}
    return {key: spread.scale_and_zero_point(limits.get(key)) for key, spread in spreads.items()}


class Taken:
    """What a layer takes, over the photographs. real: the mean of each place. rounded: the same as eight bits have it.

    variance: of each channel.
    """

    def __init__(self) -> None:
        self.real = self.rounded = self._squares = torch.zeros((), dtype=torch.float64)
        self._count = 0

    def add(self, real: torch.Tensor, rounded: torch.Tensor) -> None:
        """Sums, which `finish` divides."""
        self.real = self.real + real.sum(dim=0)
        self.rounded = self.rounded + rounded.sum(dim=0)
        self._squares = self._squares + rounded.square().mean(dim=[*range(2, real.dim())]).sum(dim=0)
        self._count += len(real)

    def finish(self) -> None:
        self.real, self.rounded = self.real / self._count, self.rounded / self._count
        mean = self.rounded.flatten(1).mean(dim=1) if self.rounded.dim() > 1 else self.rounded
        self.variance = (self._squares / self._count - mean.square()).clamp(min=0)


def taken_by_layers(run: Run, plan: Plan, scales: Scales) -> dict[int, Taken]:
    """By the node whose result they take."""
    found = {plan.input_of(layer): Taken() for layer in plan.layers.values()}

    def watch(index: int, result: torch.Tensor) -> None:
        if index in found:
            scale = scales.get(plan.scale_of.get(index, -1))
            found[index].add(result, dequantize(quantize(result, *scale), *scale) if scale else result)

    run(watch)
    for each in found.values():
        each.finish()
    return found


def _is_rounded(plan: Plan, index: int) -> bool:
    """What is passed on lies between the ends of what was made."""
    return index in plan.scale_of and (index in plan.layers or index not in plan.bytes)


def _but_channels(result: torch.Tensor) -> list[int]:
    return [axis for axis in range(result.dim()) if axis != 1]
