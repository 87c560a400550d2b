"""Real numbers → the few bits that stand for them: weights of each output channel, scales of values, biases.

Everything here is elementwise or a sum that a rounding follows, so that no archive hangs on the processor that made it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

LARGEST = 255  # of a value
MOST_WEIGHT = 127  # symmetric: −128 would have no counterpart
# 255 times the sum of two neighbouring weights of a sign fits into 16 bits. Without VNNI, x86 multiplies and adds them
# in pairs (vpmaddubsw), and cuts off what is larger: https://www.felixcloutier.com/x86/pmaddubsw
MOST_OF_A_PAIR = 128
LEAST_SCALE = 1e-30  # what float32 holds to its full precision
MANTISSA_BITS = 10  # of a scale
BIAS_BITS = 20  # of the largest bias of a layer


def rounded_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (O, I, …) → int8 of the same shape, and float32 (O,): times it, they are the weight.

    Of a sign, neighbouring inputs 2j and 2j + 1 of an output have at most MOST_OF_A_PAIR together: its scale is the
    least at which they do. A smaller one, which cuts off a few, has less error on average; but cutting off makes all of
    an output's results smaller, where rounding makes some larger: AlexNet's logits then moved twice as far.
    """
    flat = weight.reshape(*weight.shape[:2], -1)  # (O, I, positions)
    even, odd = _pairs(flat)
    pair = np.where(even * odd > 0, np.abs(even + odd), 0).max(axis=(1, 2), initial=0)
    scale = np.maximum(np.abs(flat).max(axis=(1, 2)) / MOST_WEIGHT, pair / MOST_OF_A_PAIR).astype(np.float32)
    scale[scale < LEAST_SCALE] = 1  # of an output that has no weights
    whole = np.empty(flat.shape, np.int16)
    whole[:] = np.rint(flat / scale[:, None, None].astype(np.float64)).clip(-MOST_WEIGHT, MOST_WEIGHT)
    even, odd = _pairs(whole)
    even -= np.sign(even) * (np.abs(even + odd) > MOST_OF_A_PAIR)  # by 1, where both were rounded up
    return whole.astype(np.int8).reshape(weight.shape), scale


def _pairs(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views of the even inputs that have a neighbour, and of these."""
    count = flat.shape[1] // 2 * 2
    return flat[:, 0:count:2], flat[:, 1:count:2]


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """Of values between the two, of which nothing is cut off: rounding is noise, and cutting off moves an answer."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = few_bits((high - low) / LARGEST) if (high - low) / LARGEST > LEAST_SCALE else 1.0  # of nothing
    return scale, round(-low / scale)


def scale_up_to(limit: float) -> float:
    """The largest at which nothing is above the limit."""
    return few_bits(limit / LARGEST, upwards=False)


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
