"""The whole path from image bytes to probabilities against torchvision, with the same weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.artefact.weights import Weights
from reliability.decoding import decode
from reliability.pictures import encoded, views
from tests.support.reference import WEIGHTS, Reference, torchvision
from vision.model.classifier import Classifier
from vision.model.facts import Facts
from vision.model.network import Network
from vision.model.weights import load
from vision.worker.settings import Settings

pytestmark = pytest.mark.slow

COUNT = 400

Probabilities = Callable[[list[bytes], str], torch.Tensor]


@pytest.fixture(scope="module")
def state(untrained: Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in untrained.state.items()}


@pytest.fixture(scope="module")
def classes(model_dir: Path) -> list[list[str]]:
    return list(json.loads((model_dir / "classes.json").read_text()))


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return views(photographs, COUNT)


@pytest.fixture(scope="module")
def expected(state: dict[str, torch.Tensor], images: list[bytes]) -> torch.Tensor:
    return Reference(state).probabilities(images)


@pytest.fixture(scope="module")
def probabilities(model_dir: Path, facts: Facts, settings: Settings) -> Probabilities:
    def compute(images: list[bytes], precision: str) -> torch.Tensor:
        classifier = Classifier(model_dir, facts, replace(settings, precision=precision), gpu_id=None)
        return classifier.probabilities([decode(image, 50_000_000) for image in images])

    return compute


def test_the_weights_tell_photographs_apart(expected: torch.Tensor) -> None:
    """Otherwise agreement would prove nothing."""
    top = expected.max(dim=1)
    assert top.values.median() > 0.5
    assert len(set(top.indices.tolist())) >= 5


def test_float32_always_agrees(images: list[bytes], expected: torch.Tensor, probabilities: Probabilities) -> None:
    actual = probabilities(images, "float32")
    assert torch.equal(actual.argmax(dim=1), expected.argmax(dim=1))
    assert (actual - expected).abs().max() <= 0.01


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_the_default_precision_agrees(
    precision: str, images: list[bytes], expected: torch.Tensor, probabilities: Probabilities
) -> None:
    actual = probabilities(images, precision)
    assert (actual.argmax(dim=1) == expected.argmax(dim=1)).float().mean() >= 0.995
    assert (actual - expected).abs().amax(dim=1).mean() <= 0.005


def test_large_photographs_agree_although_they_are_decoded_small(
    photographs: list[Path], state: dict[str, torch.Tensor], probabilities: Probabilities
) -> None:
    large = [
        encoded(Image.open(photograph).resize(size, Image.Resampling.LANCZOS), "JPEG", quality=92)
        for photograph in photographs
        for size in ((1365, 1024), (2048, 1536), (2048, 2731), (2500, 2600), (4000, 3000), (5200, 5300))
    ]
    expected = Reference(state).probabilities(large)
    actual = probabilities(large, "float32")
    assert torch.equal(actual.argmax(dim=1), expected.argmax(dim=1))
    assert (actual - expected).abs().max() <= 0.01


def test_the_network_is_torchvisions(state: dict[str, torch.Tensor], model_dir: Path) -> None:
    program, weights, _ = load(model_dir)
    model = Network(program, weights, "float32", torch.device("cpu"))
    reference = torchvision.models.alexnet().eval().to(memory_format=torch.channels_last)
    reference.load_state_dict(state)
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), reference(images), rtol=1e-5, atol=1e-5)
        for size in (1, 2, 3):  # these are padded with rows
            assert torch.equal(model(images[:size]), model(images)[:size])


def test_the_labels_are_torchvisions(classes: list[list[str]]) -> None:
    assert [label for _, label in classes] == WEIGHTS.meta["categories"]


def test_the_wordnet_ids_are_imagenets(classes: list[list[str]]) -> None:
    """ImageNet numbers its classes in the order of their WordNet ids."""
    wnids = [wnid for wnid, _ in classes]
    assert wnids == sorted(set(wnids))
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids)
    known = {0: ("n01440764", "tench"), 281: ("n02123045", "tabby"), 999: ("n15075141", "toilet tissue")}
    assert {index: tuple(classes[index]) for index in known} == known
