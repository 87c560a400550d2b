"""Real numbers → the few bits that represent them: weights of each output channel, scales of values, biases.

Everything here is elementwise, or a sum followed by rounding, so that no archive depends on the processor that made it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

LARGEST = 255  # of a value
MOST_WEIGHT = 127  # symmetric: −128 would have no counterpart
# 255 times the sum of two neighbouring weights of the same sign must fit into 16 bits. Without VNNI, x86 multiplies and
# adds them in pairs (vpmaddubsw), and saturates: https://www.felixcloutier.com/x86/pmaddubsw
MOST_OF_A_PAIR = 128
LEAST_SCALE = 1e-30  # float32 still holds it to full precision
MANTISSA_BITS = 10  # of a scale
BIAS_BITS = 20  # of the largest bias of a layer


def rounded_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (O, I, …) → int8 of the same shape, and float32 scales (O,); their product is the weight.

    If neighbouring inputs 2j and 2j + 1 of an output have the same sign, their sum is at most MOST_OF_A_PAIR: the scale
    is the least that ensures it. A smaller scale, which clips a few weights, has less error on average. But clipping
    makes all of an output's results smaller, while rounding makes some larger: AlexNet's logits moved twice as far.
    """
    flat = weight.reshape(*weight.shape[:2], -1)  # (O, I, positions)
    even, odd = _pairs(flat)
    pair = np.where(even * odd > 0, np.abs(even + odd), 0).max(axis=(1, 2), initial=0)
    scale = np.maximum(np.abs(flat).max(axis=(1, 2)) / MOST_WEIGHT, pair / MOST_OF_A_PAIR).astype(np.float32)
    scale[scale < LEAST_SCALE] = 1  # of an output whose weights are zero
    whole = np.empty(flat.shape, np.int16)
    whole[:] = np.rint(flat / scale[:, None, None].astype(np.float64)).clip(-MOST_WEIGHT, MOST_WEIGHT)
    even, odd = _pairs(whole)
    even -= np.sign(even) * (np.abs(even + odd) > MOST_OF_A_PAIR)  # by 1, if both were rounded up
    return whole.astype(np.int8).reshape(weight.shape), scale


def _pairs(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views of the even inputs that have a neighbour, and of their neighbours."""
    count = flat.shape[1] // 2 * 2
    return flat[:, 0:count:2], flat[:, 1:count:2]


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """For values between the two, without clipping: rounding is noise, but clipping shifts an answer."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = few_bits((high - low) / LARGEST) if (high - low) / LARGEST > LEAST_SCALE else 1.0  # an empty range
    return scale, round(-low / scale)


def scale_up_to(limit: float) -> float:
    """The largest scale at which no value exceeds the limit."""
    return few_bits(limit / LARGEST, upwards=False)


def few_bits(value: float, upwards: bool = True) -> float:
    """The next number with MANTISSA_BITS. It is the same even if sums were computed in another order."""
    mantissa, exponent = math.frexp(value)
    step = 2.0**-MANTISSA_BITS
    return math.ldexp((math.ceil if upwards else math.floor)(mantissa / step) * step, exponent)


def rounded_bias(bias: torch.Tensor) -> torch.Tensor:
    """float64 → float32, in steps that give the largest BIAS_BITS bits."""
    _, exponent = math.frexp(float(bias.abs().max())) if len(bias) else (0.0, 0)
    step = 2.0 ** (exponent - BIAS_BITS)
    return ((bias / step).round() * step).float()
