"""A float network and photographs make an int8 network: its form, its bounds, and its answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.artefact.int8.evaluation import as_float64, convolution, evaluate
from pipeline.artefact.int8.plan import LAYERS
from pipeline.artefact.int8.quantisation import quantised
from pipeline.artefact.int8.statistics import batches, normalised
from pipeline.artefact.model import Preprocessing
from pipeline.artefact.program import Program, export
from pipeline.shared.errors import NotExportable
from tests.support import int8_reference
from vision.model import int8 as handlers
from vision.model.network import Network
from vision.model.program import read_program

SIDE = 24
PREPROCESSING = Preprocessing(SIDE, SIDE, "bilinear", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLASSES = 7


def drawn(count: int, seed: int = 0) -> np.ndarray:
    """Pictures with coarse and fine detail, uint8 (count, SIDE, SIDE, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, SIDE // 6, SIDE // 6, 3))
    fine = random.integers(-30, 31, (count, SIDE, SIDE, 3))
    return (np.kron(coarse, np.ones((1, 6, 6, 1), int)) + fine).clip(0, 255).astype(np.uint8)


PICTURES, OTHERS = drawn(24), drawn(12, seed=1)


class Residual(nn.Module):
    """As in ResNet, with a pooled stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = self.stem(images)
        added = functional.relu(stem + self.two(functional.relu(self.one(stem))))
        logits: torch.Tensor = self.head(added.mean((2, 3)))
        return logits


class Fire(nn.Module):
    """As in SqueezeNet: two convolutions of one result, with concatenated channels."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.left = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 5, 1)
        self.right, self.last = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(10, CLASSES, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        squeezed = self.squeeze(images).relu()
        joined = torch.cat([self.left(squeezed).relu(), self.right(squeezed).relu()], 1)
        logits: torch.Tensor = self.last(joined).mean((2, 3))
        return logits


class Ceiling(nn.Module):
    """Pooled with ceil_mode, as in SqueezeNet: once without a difference, and once with half a window more."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 2), nn.Conv2d(6, CLASSES, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        whole = functional.max_pool2d(self.one(images).relu(), 2, ceil_mode=True)  # of 22 places
        half = functional.max_pool2d(self.two(whole).relu(), 3, 2, ceil_mode=True)  # of 10
        logits: torch.Tensor = self.last(half).mean((2, 3))
        return logits


class Depthwise(nn.Module):
    """As in MobileNet v2: depthwise convolutions, and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Conv2d(8, 6, 1),
        )  # fmt: skip
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head((self.all(images) * 3).mean((2, 3)))
        return logits


class TwoWays(nn.Module):
    """Two layers use the images, so no single convolution can absorb their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5, padding=1), nn.Linear(8, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        both = [self.left(images).relu().mean((2, 3)), self.right(images).mean((2, 3))]
        logits: torch.Tensor = self.head(torch.cat(both, 1))
        return logits


def plain() -> nn.Module:
    """As in AlexNet: whole numbers from pixels to logits."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(5), nn.Dropout(), nn.Flatten(), nn.Linear(300, 32), nn.ReLU(), nn.Linear(32, CLASSES),
    )  # fmt: skip


NETWORKS = {
    "plain": plain,
    "residual": Residual,
    "fire": Fire,
    "depthwise": Depthwise,
    "two ways": TwoWays,
    "ceiling": Ceiling,
}


def program_of(name: str) -> Program:
    torch.manual_seed(3)
    network = NETWORKS[name]().eval()
    for each in network.parameters():  # a processor may draw it with a different last bit
        each.data = (each.data * 4096).round() / 4096
    return export(network, SIDE)


def made(name: str, pictures: np.ndarray = PICTURES, kinds: frozenset[str] = LAYERS) -> tuple[Program, Program]:
    """The float program and the int8 one."""
    program = program_of(name)
    return program, quantised(program, PREPROCESSING, pictures, kinds)


def operators(program: Program) -> list[str]:
    return [node[0] for node in json.loads(program.graph)["nodes"]]


def exact(program: Program, pictures: np.ndarray, preprocessing: Preprocessing | None = None) -> np.ndarray:
    tensors = as_float64(program.tensors)
    seen = (normalised(batch, preprocessing) if preprocessing else batch for batch in batches(pictures))
    return torch.cat([evaluate(program.nodes, program.output, tensors, batch) for batch in seen]).numpy()


# --- Its form ---------------------------------------------------------------------------------------------------------


def test_a_plain_network_is_in_whole_numbers_from_pixels_to_logits() -> None:
    _, program = made("plain")
    assert operators(program) == [
        *("int8.pad", "int8.conv2d", "int8.max_pool2d", "int8.conv2d", "flatten.using_ints", "int8.linear"),
        "int8.linear",
    ]
    said = json.loads(program.graph)
    assert (said["format"], said["side"], said["input"], said["output"]) == (1, SIDE, "uint8", 6)
    assert said["nodes"][0] == ["int8.pad", [{"node": -1}, [2, 2], [124, 116, 104]]]
    first, last = said["nodes"][1][1], said["nodes"][6][1]
    assert first[1:3] == [1.0, 0]  # pixels are used as they are
    assert first[6:11] == [[2, 2], [0, 0], [1, 1], 1, True]
    assert said["nodes"][3][1][1:3] == first[11:]  # a layer uses the scale of the previous one's output
    assert last[6:] == [False, None, 0]


def test_additions_stay_in_real_numbers() -> None:
    _, program = made("residual")
    assert operators(program) == [
        *("int8.pad", "int8.conv2d", "max_pool2d", "int8.quantize", "int8.conv2d", "int8.conv2d", "add.Tensor", "relu"),
        *("mean.dim", "int8.quantize", "int8.linear"),
    ]
    nodes = json.loads(program.graph)["nodes"]
    assert nodes[1][1][10:] == [True, None, 0]  # its ReLU is still separate
    assert nodes[5][1][10:] == [False, None, 0]


def test_what_is_joined_shares_a_scale() -> None:
    _, program = made("fire")
    nodes = json.loads(program.graph)["nodes"]
    assert [node[0] for node in nodes] == [*["int8.conv2d"] * 3, "cat", "int8.conv2d", "mean.dim"]
    assert nodes[1][1][11:] == nodes[2][1][11:] == nodes[4][1][1:3]
    assert nodes[0][1][0] == {"node": -1}  # no border, no padding


def test_relu6_is_the_end_of_a_scale() -> None:
    _, program = made("depthwise")
    nodes = json.loads(program.graph)["nodes"]
    layers = [node for node in nodes if node[0] == "int8.conv2d"]
    assert len(layers) == 3
    assert not {"relu6", "hardtanh"} & set(operators(program))
    for layer in layers[:2]:
        assert layer[1][10] is True
        assert 0 < layer[1][11] * 255 <= 6


def test_a_pooling_is_in_eight_bits_where_its_windows_are_whole() -> None:
    _, program = made("ceiling")
    expected = [
        "int8.conv2d",
        "int8.max_pool2d",
        "int8.conv2d",
        "max_pool2d",
        "int8.quantize",
        "int8.conv2d",
        "mean.dim",
    ]
    assert operators(program) == expected


def test_images_that_go_two_ways_are_normalised_as_they_were() -> None:
    _, program = made("two ways")
    assert operators(program)[:3] == ["int8.dequantize", "sub.Tensor", "div.Tensor"]


def test_linear_layers_can_be_left_out() -> None:
    _, program = made("plain", kinds=frozenset({"conv2d"}))
    assert operators(program)[-4:] == ["flatten.using_ints", "linear", "relu", "linear"]


def test_nothing_to_be_made_int8_is_told() -> None:
    program = export(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)), SIDE)
    with pytest.raises(NotExportable, match="nothing in it can be int8"):
        quantised(program, PREPROCESSING, PICTURES)


# --- Its weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_neighbours_of_a_sign_are_bounded_so_that_no_processor_cuts_their_sum(name: str) -> None:
    _, program = made(name)
    whole = {key: array for key, array in program.tensors.items() if array.dtype == np.int8}
    assert whole
    for array in whole.values():
        assert np.abs(array.astype(int)).max() <= 127
        pairs = array.shape[1] // 2 * 2
        even, odd = array[:, 0:pairs:2].astype(int), array[:, 1:pairs:2].astype(int)
        assert np.abs(np.where(even * odd > 0, even + odd, 0)).max(initial=0) <= 128
    for key, array in program.tensors.items():
        assert array.dtype in (np.int8, np.float32)
        assert np.isfinite(array).all()
        assert not key.endswith(":scale") or (array > 0).all()


# --- Its answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_nearly_as_the_float_network_does(name: str) -> None:
    floats, program = made(name)
    expected, found = exact(floats, OTHERS, PREPROCESSING), exact(program, OTHERS)
    assert np.abs(found - expected).mean() < 0.02 * expected.std()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_evaluated_as_the_reference_has_it(name: str) -> None:
    _, program = made(name)
    expected = int8_reference.answers(program.graph, program.tensors, OTHERS)
    np.testing.assert_allclose(exact(program, OTHERS), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(handlers.refusal() is not None, reason=str(handlers.refusal()))
@pytest.mark.parametrize("name", NETWORKS)
def test_the_handler_computes_the_same(name: str) -> None:
    """Its real numbers are float32, so a value may occasionally be rounded to the next of 256."""
    _, program = made(name)
    weights = {key: torch.from_numpy(array) for key, array in program.tensors.items()}
    network = Network(read_program(program.graph, weights), weights, "float32", torch.device("cpu"))
    pixels = torch.from_numpy(OTHERS).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    expected = int8_reference.answers(program.graph, program.tensors, OTHERS)
    found = network(pixels).numpy()
    assert np.abs(found - expected).max() < 0.01 * expected.std()


def test_the_order_of_the_photographs_changes_little_and_the_same_order_nothing() -> None:
    """The sixteenth digit of float64 sums depends on their order: figures are rounded to fewer digits."""
    (_, one), (_, again), (_, turned) = (made("residual", each) for each in (PICTURES, PICTURES, PICTURES[::-1].copy()))
    for other in (again, turned):
        assert one.graph == other.graph
        assert one.tensors.keys() == other.tensors.keys()
        for name, array in one.tensors.items():
            assert array.tobytes() == other.tensors[name].tobytes()


DIGEST = """
import hashlib
from tests.pipeline.artefact.test_int8_program import NETWORKS, made
for name in NETWORKS:
    _, program = made(name)
    tensors = [array.tobytes() for array in program.tensors.values()]
    print(hashlib.sha256(b"".join([program.graph, *tensors])).hexdigest())
"""


@pytest.mark.slow
def test_a_processor_with_other_instructions_makes_the_same(checkout: Path) -> None:
    """It sums in another order, and has different functions for logarithms."""
    paths = os.pathsep.join([str(checkout), str(checkout / "handler")])
    others: list[dict[str, str]] = [{}, {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}]
    digests = [
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | {"PYTHONPATH": paths} | other,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for other in others
    ]
    assert len(digests[0].split()) == len(NETWORKS)
    assert digests[0] == digests[1]


def test_a_channel_that_is_never_used_harms_nothing() -> None:
    torch.manual_seed(0)
    network: Any = plain().eval()
    network[0].weight.data[2] = 0
    network[0].bias.data[2] = -1
    network[3].weight.data[:, 4] = 0
    program = export(network, SIDE)
    found = quantised(program, PREPROCESSING, PICTURES)
    expected = exact(program, OTHERS, PREPROCESSING)
    assert np.abs(exact(found, OTHERS) - expected).mean() < 0.03 * expected.std()


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_in_float64_is_torchs(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 8, 9, 10, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 8 // groups, 3, 2, generator=generator, dtype=torch.float64)
    bias = torch.randn(8, generator=generator, dtype=torch.float64)
    for geometry in (([1, 1], [0, 0], [1, 1]), ([2, 3], [1, 2], [2, 1]), ([2], [1], [1])):
        expected = functional.conv2d(images, weight, bias, *geometry, groups)
        torch.testing.assert_close(convolution(images, weight, bias, *geometry, groups), expected)
