"""Real numbers → the few bits that stand for them: weights of each output channel, scales of values, biases.

Everything here is elementwise or a sum that a rounding follows, so that no archive hangs on the processor that made it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

MOST_WEIGHT = 127  # symmetric: −128 would have no counterpart
# 255 times the sum of two neighbouring weights of a sign fits into 16 bits. Without VNNI, x86 multiplies and adds them
# in pairs (vpmaddubsw), and cuts off what is larger: https://www.felixcloutier.com/x86/pmaddubsw
MOST_OF_A_PAIR = 128
CLIPPINGS = tuple(1 - 0.05 * step for step in range(9))  # parts of the range that are tried
BINS = 4096
MOST_TRIED = 2048  # weights of each output
MANTISSA_BITS = 10  # of a scale
BIAS_BITS = 20  # of the largest bias of a layer
ROWS = 16  # output channels at a time: what is tried with them stays in the processor's cache


def rounded_weights(weight: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (O, I, …) → int8 of the same shape, and float32 (O,): times it, they are the weight.

    Of a sign, neighbouring inputs 2j and 2j + 1 of an output have at most MOST_OF_A_PAIR together. Each output has the
    scale at which the squares of what rounding and the bound change sum up to the least.
    importance: float64 (O, I), how much each of an output's inputs varies.
    """
    flat = weight.astype(np.float32).reshape(*weight.shape[:2], -1)  # (O, I, positions)
    whole, scale = np.empty(flat.shape, np.int8), np.empty(len(flat), np.float32)
    for start in range(0, len(flat), ROWS):
        rows = slice(start, start + ROWS)
        scale[rows] = _scale(flat[rows], importance[rows].astype(np.float32))
        whole[rows] = _whole(flat[rows], scale[rows])
    return whole.reshape(weight.shape), scale


def _scale(flat: np.ndarray, importance: np.ndarray) -> np.ndarray:
    scale: np.ndarray
    even, odd = _pairs(flat)
    alike = np.where(even * odd > 0, np.abs(even + odd), 0).max(axis=(1, 2), initial=0)
    largest = np.maximum(np.abs(flat).max(axis=(1, 2)) / MOST_WEIGHT, alike / MOST_OF_A_PAIR)
    scale = largest = np.where(largest > 0, largest, 1).astype(np.float32)
    some = _some_pairs(flat)
    sample, matters, least = flat[:, some], importance[:, some, None], np.full(len(flat), np.inf)
    for clipping in CLIPPINGS:
        tried = largest * np.float32(clipping)
        changed = _whole(sample, tried) * tried[:, None, None] - sample
        error = (changed * changed * matters).sum(axis=(1, 2), dtype=np.float64)
        better = error < least * (1 - 1e-6)  # as good as equal: on any processor the same
        least, scale = np.where(better, error, least), np.where(better, tried, scale).astype(np.float32)
    return scale


def _some_pairs(flat: np.ndarray) -> np.ndarray:
    """Inputs that stand for all: of each output, a few thousand weights."""
    inputs = np.arange(flat.shape[1])
    return inputs[inputs // 2 % math.ceil(flat.shape[1] * flat.shape[2] / MOST_TRIED) == 0]


def _whole(flat: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whole numbers within the bounds: what two neighbours have too much, each gives half of."""
    whole: np.ndarray = np.rint(flat / scale[:, None, None]).clip(-MOST_WEIGHT, MOST_WEIGHT).astype(np.int16)
    even, odd = _pairs(whole)
    excess = np.maximum(np.abs(even + odd) - MOST_OF_A_PAIR, 0)  # none of two signs: each is 127 at most
    half = excess >> 1
    even_sign, odd_sign = np.sign(even), np.sign(odd)
    even -= even_sign * (excess - half)
    odd -= odd_sign * half
    return whole


def _pairs(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views of the even inputs that have a neighbour, and of these."""
    count = flat.shape[1] // 2 * 2
    return flat[:, 0:count:2], flat[:, 1:count:2]


class Histogram:
    """How often each value between two ends was seen. Zeros count for nothing: they are exact at any scale."""

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
