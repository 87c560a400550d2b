"""Real numbers → the few bits that stand for them: weights of each output channel, scales of values, biases.

Everything here is elementwise or a sum that a rounding follows, so that no archive hangs on the processor that made it.
"""

from __future__ import annotations

import math

import torch

MOST_WEIGHT = 127  # symmetric: −128 would have no counterpart
# 255 times the sum of two neighbouring weights of a sign fits into 16 bits. Without VNNI, x86 multiplies and adds them
# in pairs (vpmaddubsw), and cuts off what is larger: https://www.felixcloutier.com/x86/pmaddubsw
MOST_OF_A_PAIR = 128
CLIPPINGS = tuple(1 - 0.04 * step for step in range(11))  # parts of the range that are tried
BINS = 4096
MANTISSA_BITS = 10  # of a scale
BIAS_BITS = 20  # of the largest bias of a layer
ROWS = 256  # output channels at a time


def rounded_weights(weight: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 (O, I, …) → int8 of the same shape, and float32 (O,): times it, they are the weight.

    Of a sign, neighbouring inputs 2j and 2j + 1 of an output have at most MOST_OF_A_PAIR together. Each output has the
    scale at which the squares of what rounding and the bound change sum up to the least.
    importance: float64 (O, I), how much each of an output's inputs varies.
    """
    parts = [_rounded_rows(*rows) for rows in zip(weight.split(ROWS), importance.split(ROWS), strict=True)]
    return torch.cat([each[0] for each in parts]), torch.cat([each[1] for each in parts])


def _rounded_rows(weight: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    flat = weight.flatten(2) if weight.dim() > 2 else weight.unsqueeze(2)  # (O, I, positions)
    matters = importance.unsqueeze(2)
    largest = torch.maximum(flat.abs().amax(dim=(1, 2)) / MOST_WEIGHT, _largest_pair(flat) / MOST_OF_A_PAIR)
    largest = torch.where(largest > 0, largest, 1.0)
    best, scale, least = torch.zeros_like(flat), torch.ones_like(largest), torch.full_like(largest, math.inf)
    for clipping in CLIPPINGS:
        tried = (largest * clipping).float().double()
        whole = _within_pairs((flat / tried.view(-1, 1, 1)).round().clamp(-MOST_WEIGHT, MOST_WEIGHT))
        error = ((whole * tried.view(-1, 1, 1) - flat).square() * matters).sum(dim=(1, 2))
        better = error < least * (1 - 1e-9)  # as good as equal: on any processor the same
        least = torch.where(better, error, least)
        scale = torch.where(better, tried, scale)
        best = torch.where(better.view(-1, 1, 1), whole, best)
    return best.view(weight.shape).to(torch.int8), scale.float()


def _pairs(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The even inputs that have a neighbour, and these."""
    count = flat.shape[1] // 2 * 2
    return flat[:, 0:count:2], flat[:, 1:count:2]


def _largest_pair(flat: torch.Tensor) -> torch.Tensor:
    first, second = _pairs(flat)
    if not first.shape[1]:
        return torch.zeros(len(flat), dtype=flat.dtype)
    return torch.where(first * second > 0, (first + second).abs(), 0.0).amax(dim=(1, 2))


def _within_pairs(whole: torch.Tensor) -> torch.Tensor:
    """What two neighbours have too much, each gives half of."""
    first, second = _pairs(whole)
    excess = torch.where(first * second > 0, (first + second).abs() - MOST_OF_A_PAIR, 0.0).clamp(min=0)
    result = whole.clone()
    left, right = _pairs(result)
    left -= first.sign() * (excess / 2).ceil()
    right -= second.sign() * (excess / 2).floor()
    return result


class Histogram:
    """How often a value was seen, of what lies between two ends. Zeros count for nothing: they are exact at any scale."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = min(low, 0.0), max(high, 0.0)
        self._counts = torch.zeros(BINS, dtype=torch.float64)

    def add(self, values: torch.Tensor) -> None:
        if self.high > self.low:
            self._counts += torch.histc(values[values != 0], BINS, self.low, self.high)

    def scale_and_zero_point(self, at_most: float | None = None) -> tuple[float, int]:
        """Those at which the squares of what rounding and cutting off change sum up to the least.

        at_most: what lies above is cut off in any case.
        """
        if self.high == self.low:
            return 1.0, 0
        high = self.high if at_most is None else min(self.high, at_most)
        width = (self.high - self.low) / BINS
        middles = self.low + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)
        best, least = (1.0, 0), math.inf
        for clipping in CLIPPINGS:
            scale = few_bits((high - self.low) * clipping / 255, upwards=at_most is None)
            zero_point = round(-self.low * clipping / scale)
            low, top = -zero_point * scale, (255 - zero_point) * scale
            cut = (middles - middles.clamp(low, top)).square()
            error = float((self._counts * torch.where(cut > 0, cut, scale**2 / 12)).sum())
            if error < least * (1 - 1e-9):
                best, least = (scale, zero_point), error
        return best


def few_bits(value: float, upwards: bool = True) -> float:
    """The next number with MANTISSA_BITS: what sums in another order differ by, it does not have."""
    mantissa, exponent = math.frexp(value)
    step = 2.0**-MANTISSA_BITS
    return math.ldexp((math.ceil if upwards else math.floor)(mantissa / step) * step, exponent)


def rounded_bias(bias: torch.Tensor) -> torch.Tensor:
    """float64 → float32, of as many bits as the largest needs."""
    _, exponent = math.frexp(float(bias.abs().max())) if len(bias) else (0.0, 0)
    step = 2.0 ** (exponent - BIAS_BITS)
    return ((bias / step).round() * step).float()
