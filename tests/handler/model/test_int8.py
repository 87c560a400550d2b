"""8-bit layers match exact integer sums, on processors with and without VNNI."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.support.int8_network import drawn, program, weights
from vision.model import int8
from vision.model.network import Network
from vision.model.program import read_program

pytestmark = pytest.mark.skipif(int8.refusal() is not None, reason=f"{int8.refusal()}")
CPU = torch.device("cpu")
Json = dict[str, Any]


# --- The operators ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([(3, 8, 1), (16, 16, 1), (5, 7, 1), (8, 8, 8), (8, 12, 4)]),
    window=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    zero_point=st.sampled_from([0, 3, 128, 255]),
    relu=st.booleans(),
    scale=st.sampled_from([None, 0.5, 3.0]),
    bias=st.booleans(),
)
def test_a_convolution_is_its_exact_sums(
    seed: int,
    channels: tuple[int, int, int],
    window: int,
    stride: int,
    padding: int,
    dilation: int,
    zero_point: int,
    relu: bool,
    scale: float | None,
    bias: bool,
) -> None:
    inputs, outputs, groups = channels
    x = drawn((2, inputs, 9, 8), seed)
    weight = drawn((outputs, inputs // groups, window, window), seed, -64, 64)
    weight_scale = torch.linspace(0.001, 0.01, outputs)
    shift = torch.linspace(-9, 9, outputs) if bias else None
    geometry = ([stride] * 2, [padding] * 2, [dilation] * 2, groups)
    y: int8.Y = (1.0, 0, torch.float32) if scale is None else (scale, 7, torch.uint8)
    layer = int8.Conv2d(weight, weight_scale, shift, (0.25, zero_point), relu, y, geometry=geometry)
    sums = functional.conv2d(x.double() - zero_point, weight.double(), None, *geometry)
    expected = sums * 0.25 * weight_scale.double().view(-1, 1, 1)
    if shift is not None:
        expected += shift.double().view(-1, 1, 1)
    agrees(layer(x), expected, relu, y)
    layer.check(x)


def test_a_convolution_is_packed_for_any_number_of_threads_and_images() -> None:
    """oneDNN orders weights differently for one image and several threads; the wrong order takes 30 times as long."""
    weight, scale = drawn((192, 64, 5, 5), 1, -64, 64), torch.full((192,), 0.01)
    y: int8.Y = (5.0, 0, torch.uint8)
    layer = int8.Conv2d(weight, scale, None, (1.0, 0), True, y, geometry=([1, 1], [2, 2], [1, 1], 1))
    images = drawn((5, 64, 9, 9), 2)
    layer.check(images)
    threads = torch.get_num_threads()
    expected = layer(images)
    try:
        for several in (1, 2, 3):
            torch.set_num_threads(several)
            for count in range(1, 6):
                assert torch.equal(layer(images[:count]), expected[:count])
    finally:
        torch.set_num_threads(threads)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 5),
    shape=st.sampled_from([(8, 16), (13, 7), (300, 200), (1, 1)]),
    zero_point=st.sampled_from([0, 100]),
    relu=st.booleans(),
    scale=st.sampled_from([None, 0.5]),
)
def test_a_linear_layer_is_its_exact_sums(
    seed: int, rows: int, shape: tuple[int, int], zero_point: int, relu: bool, scale: float | None
) -> None:
    outputs, inputs = shape
    x, weight = drawn((rows, inputs), seed), drawn((outputs, inputs), seed, -64, 64)
    weight_scale, bias = torch.linspace(0.001, 0.01, outputs), torch.linspace(-9, 9, outputs)
    y: int8.Y = (1.0, 0, torch.float32) if scale is None else (scale, 7, torch.uint8)
    layer = int8.Linear(weight, weight_scale, bias, (0.25, zero_point), relu, y)
    sums = (x.double() - zero_point) @ weight.double().t()
    agrees(layer(x), sums * 0.25 * weight_scale.double() + bias.double(), relu, y)
    layer.check(x)


def agrees(found: torch.Tensor, exact: torch.Tensor, relu: bool, y: int8.Y) -> None:
    scale, zero_point, dtype = y
    assert found.dtype == dtype
    expected = exact.clamp(min=0) if relu else exact
    if dtype == torch.uint8:
        expected = (expected / scale).round().add(zero_point).clamp(0, 255)
        assert (found.double() - expected).abs().max() <= 1  # halfway between two
    else:
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "stride", "padding"), [*itertools.product((1, 2, 3), (1, 2), (0, 1))])
def test_the_largest_of_each_window(window: int, stride: int, padding: int) -> None:
    if padding * 2 > window:
        return
    x = drawn((2, 5, 9, 8), 0).contiguous(memory_format=torch.channels_last)
    expected = functional.max_pool2d(x.float(), window, stride, padding).to(torch.uint8)
    assert torch.equal(int8.max_pool2d(x, [window] * 2, [stride] * 2, [padding] * 2), expected)


def test_a_border_has_its_colour() -> None:
    x = drawn((2, 3, 4, 5), 0)
    padded = int8.pad(x, [1, 2], [124, 116, 104])
    assert padded.shape == (2, 3, 6, 9)
    assert torch.equal(padded[:, :, 1:-1, 2:-2], x)
    assert (
        padded[1, :, 0, 0].tolist() == padded[0, :, -1, -1].tolist() == padded[0, :, 2, 1].tolist() == [124, 116, 104]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_rounded_to_the_nearest(dtype: torch.dtype) -> None:
    x = torch.tensor([-1.0, 0.0, 0.2, 0.25, 0.3, 0.75, 100.0], dtype=dtype)
    stored = int8.quantize(x, 0.5, 2)
    assert stored.tolist() == [0, 2, 2, 2, 3, 4, 202]
    assert int8.dequantize(stored, 0.5, 2, dtype).tolist() == [-1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 100.0]
    assert int8.quantize(torch.tensor([1e9, -1e9]), 0.5, 2).tolist() == [255, 0]


# --- A program --------------------------------------------------------------------------------------------------------


def network(said: Json, precision: str = "float32", held: dict[str, torch.Tensor] | None = None) -> Network:
    held = held or weights()
    return Network(read_program(json.dumps(said).encode(), held), held, precision, CPU)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_program_goes_from_pixels_to_logits(precision: str) -> None:
    made, pixels, held = network(program(), precision), drawn((3, 3, 16, 16), 5), weights()
    assert (made.classes, made.on_pixels) == (5, True)
    convolved = functional.conv2d(int8.pad(pixels, [1, 1], [124, 116, 104]).double(), held["conv.weight"].double())
    hidden = (convolved * 0.01 + held["conv.bias"].double().view(-1, 1, 1)).clamp(min=0)
    pooled = functional.max_pool2d((hidden / 4).round().clamp(max=255), 2)
    expected = pooled.flatten(1) @ held["fc.weight"].double().t() * 0.04
    logits = made(pixels)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-3)
    assert torch.equal(made(pixels[1:2]), logits[1:2]), "sums are exact: no row hangs on its company"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_not_of_8_bits_is_computed_beside_it(precision: str) -> None:
    said = program()
    conv = said["nodes"][1][1]
    said["nodes"][1:] = [
        ["int8.conv2d", [*conv[:-3], False, None, 0]],
        ["add.Tensor", [{"node": 1}, {"node": 1}]],
        ["relu", [{"node": 2}]],
        ["int8.quantize", [{"node": 3}, 8.0, 0]],
        ["int8.max_pool2d", [{"node": 4}, [2, 2], [2, 2], [0, 0]]],
        ["int8.dequantize", [{"node": 5}, 8.0, 0]],
        ["mean.dim", [{"node": 6}, [2, 3]]],
        ["linear", [{"node": 7}, {"weight": "head"}]],
    ]
    said["output"] = 8
    held = {**weights(), "head": torch.eye(4)}
    pixels = drawn((3, 3, 16, 16), 5)
    convolved = functional.conv2d(int8.pad(pixels, [1, 1], [124, 116, 104]).double(), held["conv.weight"].double())
    hidden = 2 * (convolved * 0.01 + held["conv.bias"].double().view(-1, 1, 1)).clamp(min=0)
    expected = functional.max_pool2d((hidden / 8).round().clamp(max=255) * 8, 2).mean(dim=(2, 3))
    torch.testing.assert_close(network(said, precision, held)(pixels).double(), expected, rtol=0.02, atol=0.5)


def changed(at: int, argument: int, value: Any) -> Json:
    said = program()
    said["nodes"][at][1][argument] = value
    return said


REFUSED: dict[str, tuple[Json, str]] = {
    "float weights": (changed(1, 3, {"weight": "float"}), r"nodes\[1\]: int8.conv2d: weight: int8 is expected"),
    "a weight of two dimensions": (changed(1, 3, {"weight": "fc.weight"}), "weight: int8 is expected"),
    "a scale for other outputs": (changed(1, 4, {"weight": "fc.scale"}), "weight_scale: float32 is expected, a number"),
    "a bias of whole numbers": (changed(1, 5, {"weight": "fc.weight"}), "bias: float32 is expected, a number"),
    "a result where a weight is due": (changed(1, 3, {"node": 0}), "weights of the file are expected"),
    "a weight for what goes in": (
        changed(4, 0, {"weight": "pixels"}),
        r"nodes\[4\]: int8.linear: x: a result is expected",
    ),
    "a scale of 0": (changed(1, 1, 0.0), "a scale above 0 is expected"),
    "a scale below 0": (changed(4, 1, -1.0), "a scale above 0 is expected"),
    "a zero point of 256": (changed(1, 2, 256), "a zero point from 0 to 255 is expected"),
    "a stride of 0": (changed(1, 6, [0, 1]), "stride, padding, dilation: two numbers are expected"),
    "three strides": (changed(1, 6, [1, 1, 1]), "stride, padding, dilation: two numbers are expected"),
    "a padding of a kilometre": (changed(1, 7, [1000, 1]), "padding: numbers of at most 64 are expected"),
    "a padding below 0": (changed(1, 7, [-1, 1]), "stride, padding, dilation: two numbers are expected"),
    "groups that divide nothing": (changed(1, 9, 3), "groups: they do not divide the outputs"),
    "a window that leaves no room": (changed(1, 8, [9, 9]), "its windows are larger than the image"),
    "a pool that leaves no room": (changed(2, 1, [2**30, 2]), "its windows are larger than the image"),
    "a pool without steps": (changed(2, 2, [0, 2]), "sizes above 0 are expected"),
    "a colour of two channels": (changed(0, 2, [1, 2]), "colour: a number from 0 to 255 is expected for each channel"),
    "a colour of 256": (changed(0, 2, [1, 2, 256]), "colour: a number from 0 to 255 is expected for each channel"),
    "another number of inputs": (changed(4, 0, {"node": 0}), r"uint8 of \(N, 256\) is expected"),
    "another input": ({**program(), "input": "float16"}, 'input: "uint8" is expected, or nothing'),
    "no input": ({key: value for key, value in program().items() if key != "input"}, "'int8.pad' is no operator that"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_network_is_refused_in_a_sentence(case: str) -> None:
    said, expected = REFUSED[case]
    with pytest.raises(ValueError, match=expected):
        network(said)


# --- Processors -------------------------------------------------------------------------------------------------------

CHECK = """
import sys, torch
from tests.support.int8_network import drawn, program, weights
from vision.model import int8
most = int(sys.argv[1])
weight = torch.full((16, 64, 3, 3), most, dtype=torch.int8)
weight[:, ::3] = -most
x = torch.zeros(2, 64, 13, 13, dtype=torch.uint8)
rows = weight.flatten(1)[:, :512].contiguous()
scale, geometry = torch.full((16,), 0.01), ([1, 1], [1, 1], [1, 1], 1)
convolution = int8.Conv2d(weight, scale, None, (1.0, 0), False, (500.0, 128, torch.uint8), geometry=geometry)
linear = int8.Linear(rows, scale, None, (1.0, 0), False, (1.0, 0, torch.float32))
for name, layer, inputs in (("conv2d", convolution, x), ("linear", linear, x.flatten(1)[:, :512])):
    try:
        layer.check(inputs)
        print(name, "right")
    except ValueError as error:
        print(name, error)
"""


def checked(most: int, instructions: str | None) -> list[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if instructions:
        environment["ONEDNN_MAX_CPU_ISA"] = instructions
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHECK, str(most)], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("instructions", [None, "AVX2", "AVX512_CORE"])
def test_two_products_fit_into_16_bits(instructions: str | None) -> None:
    assert checked(64, instructions) == ["conv2d right", "linear right"]


def test_where_they_do_not_a_worker_sees_it() -> None:
    """Without VNNI, sums of two products of 127 and 255 saturate at 32,767."""
    convolution, _ = checked(127, "AVX2")
    assert convolution == f"conv2d {int8.OTHERWISE}"
