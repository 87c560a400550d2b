"""A network from each of torchvision's families, from timm, and from a user's file: packed, it answers as before.

`make classifiers` tries all of them, with complete packaging and serving: docs/classifiers.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from benchmarks.classifiers.architectures import FILES
from benchmarks.classifiers.calibration import calibrated
from pipeline.artefact.architecture import module
from pipeline.artefact.program import export
from pipeline.artefact.proof import MOST_MOVED, MOST_OF_LOGITS
from vision.model.network import Network
from vision.model.program import read_program

CLASSES = 5
# The fastest of each. AlexNet is in all other tests.
FAMILIES = (
    *("convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5"),
    *("mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *("swin_t", "swin_v2_t", "vgg11", "vit_b_32", "of_timm.py:mobilenetv4_conv_small", "own.py:build"),
)
SIDES = {"googlenet": 224, "inception_v3": 224, "maxvit_t": 224}  # pixels
WITHOUT_MAP = {"vit_b_32", "own.py:build"}  # of the picture, if only a classifier follows
SIDE = 128  # for the others: the same operators as for larger images, in less time
CPU = torch.device("cpu")


def images(side: int) -> torch.Tensor:
    """Smooth, like photographs."""
    random = torch.Generator().manual_seed(0)
    return functional.interpolate(torch.randn(2, 3, 12, 12, generator=random), (side, side), mode="bicubic")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads, next to the other process's tests, mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_answers_as_it_did(architecture: str) -> None:
    side = SIDES.get(architecture, SIDE)
    asked = images(side)
    network = module(architecture, CLASSES, side, FILES)
    calibrated(network, CLASSES, asked)
    program = export(network, side)
    weights = {name: torch.from_numpy(array) for name, array in program.tensors.items()}
    with torch.inference_mode():
        expected = network(asked)
    assert (expected[0] - expected[1]).abs().max() > 0.05  # it depends on the image
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        packed = Network(read_program(program.graph, weights), weights, precision, CPU)
        together = asked.to(dtype, memory_format=torch.channels_last)
        for few in (together, together[:1]):
            logits = packed(few)
            moved = (logits.softmax(dim=1) - expected[: len(few)].softmax(dim=1)).abs().max()
            assert moved <= MOST_MOVED[precision]
            assert (logits - expected[: len(few)]).abs().max() <= MOST_OF_LOGITS[precision] * expected.std()
        assert (packed.layer is None) == (architecture in WITHOUT_MAP)
        if packed.layer:
            assert packed.layer.rows >= 4
            made, gradient = packed.traced_back(together[:1], 0)
            assert made.shape == gradient.shape
            assert made.isfinite().all()
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0
