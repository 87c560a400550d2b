"""Weights, scales and biases in few bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artefact.int8.rounding import few_bits, rounded_bias, rounded_weights, scale_and_zero_point, scale_up_to

SHAPES = [(3, 8), (2, 7), (4, 3, 2, 2), (5, 1, 3, 3), (1, 6, 1, 1)]
LARGEST = 255 * 128  # the limit for the sum of two products in 16 bits


@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 3.0]), st.floats(1e-6, 1e6))
def test_two_products_of_neighbours_fit_into_16_bits(
    shape: tuple[int, ...], seed: int, tail: float, size: float
) -> None:
    """For any pixels or values, 0 to 255 each."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal(shape) * size
    weight *= np.where(random.random(shape) < 0.1, 1 + tail * 10, 1)  # some are outliers
    whole, scale = rounded_weights(weight)
    assert [each.dtype.name for each in (whole, scale)] == ["int8", "float32"]
    assert (whole.shape, scale.shape) == (shape, shape[:1])
    assert whole.min() >= -127
    pairs = shape[1] // 2 * 2
    even, odd = whole[:, 0:pairs:2].astype(int), whole[:, 1:pairs:2].astype(int)
    most, least = np.maximum(even, 0) + np.maximum(odd, 0), np.minimum(even, 0) + np.minimum(odd, 0)
    assert 255 * most.max(initial=0) <= LARGEST
    assert 255 * least.min(initial=0) >= -LARGEST
    apart = np.abs(whole * scale.astype(np.float64).reshape(-1, *[1] * (len(shape) - 1)) - weight)
    assert (apart <= 1.51 * scale.reshape(-1, *[1] * (len(shape) - 1))).all()  # half a step, or a step and a half


def test_a_channel_without_weights_has_a_scale_like_any_other() -> None:
    whole, scale = rounded_weights(np.zeros((2, 4)))
    assert not whole.any()
    assert (scale == 1).all()


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_scale_reaches_from_end_to_end_and_has_zero_itself(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    scale, zero_point = scale_and_zero_point(low, high)
    assert type(zero_point) is int
    assert 0 <= zero_point <= 255
    assert scale > 0
    assert -zero_point * scale <= min(low, 0) + scale / 2
    assert (255 - zero_point) * scale >= max(high, 0) - scale / 2


def test_values_that_are_never_negative_have_all_steps_above_zero() -> None:
    assert scale_and_zero_point(0.0, 510.0) == (2.0, 0)
    assert scale_and_zero_point(0.0, 0.0) == (1.0, 0)


@given(st.floats(1e-3, 1e3))
def test_a_limit_is_not_passed(limit: float) -> None:
    scale = scale_up_to(limit)
    assert limit * 0.997 <= scale * 255 <= limit


@given(st.floats(1e-6, 1e6))
def test_what_sums_differ_by_is_gone(value: float) -> None:
    found = few_bits(value)
    assert value <= found <= value * 1.002
    assert float(np.float32(found)) == found
    assert few_bits(found) == found


@pytest.mark.parametrize("noise", [0.0, 1e-13, -1e-13])
def test_a_bias_has_as_many_bits_as_the_largest_needs(noise: float) -> None:
    bias = torch.tensor([100.1, -3e-7, 0.3], dtype=torch.float64)
    found = rounded_bias(bias * (1 + noise))
    assert found.dtype == torch.float32
    assert torch.equal(found, rounded_bias(bias))
    assert (found.double() - bias).abs().max() < 1e-4
    assert not rounded_bias(torch.zeros(3, dtype=torch.float64)).any()
