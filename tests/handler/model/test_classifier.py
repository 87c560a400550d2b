"""Batches, their bounds, and what a worker refuses to load."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from reliability.decoding import PREPROCESSING, decode
from reliability.pictures import encoded, gradient
from tests.support import company
from tests.support.company import answers_that_differ
from vision.model.alexnet import AlexNet
from vision.model.classifier import Classifier
from vision.model.ranking import top_k
from vision.worker.settings import Settings


@pytest.fixture(scope="module")
def weights_file(model_dir: Path) -> Path:
    return model_dir / "alexnet.safetensors"


@pytest.fixture(scope="module")
def pixels() -> list[np.ndarray]:
    return [decode(encoded(gradient(300 + 10 * n, 300)), 10**8) for n in range(7)]


def test_batches_are_split_at_the_bound_and_keep_their_order(
    weights_file: Path, settings: Settings, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Classifier(weights_file, PREPROCESSING, replace(settings, max_batch=3, precision="float32"), gpu_id=None)
    sizes = []
    forward = split._forward

    def noted(batch: list[np.ndarray]) -> torch.Tensor:
        sizes.append(len(batch))
        return forward(batch)

    monkeypatch.setattr(split, "_forward", noted)
    together = split.probabilities(pixels)
    assert sizes == [3, 3, 1]
    assert together.shape == (7, 1000)
    assert together.dtype == torch.float32
    for row, image in zip(together, pixels, strict=True):
        torch.testing.assert_close(row, split.probabilities([image])[0], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def views(photographs: list[Path]) -> np.ndarray:
    """uint8 of shape (20, 224, 224, 3): rounding shows on some pictures and not on others."""
    found = []
    for photograph in photographs:
        with Image.open(photograph) as image:
            side = min(image.size) - 30
            corners = [(left, top) for left in (0, 20) for top in (0, 20)]
            boxes = [(left, top, left + side, top + side) for left, top in corners]
            found += [np.asarray(image.convert("RGB").resize((224, 224), box=box)) for box in boxes]
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_answer_does_not_depend_on_its_company(
    precision: str, weights_file: Path, settings: Settings, views: np.ndarray
) -> None:
    made = Classifier(weights_file, PREPROCESSING, replace(settings, precision=precision), gpu_id=None)
    assert answers_that_differ(made, list(views)) == []


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_nor_does_it_on_processors_with_fewer_instructions(
    instructions: str, model_dir: Path, views: np.ndarray, tmp_path: Path
) -> None:
    """oneDNN and MKL then choose the kernels that they would take on an older one, which works in float32."""
    np.save(tmp_path / "pixels.npy", views[::2])
    command = [sys.executable, "-P", company.__file__, str(model_dir), str(tmp_path / "pixels.npy")]
    limits = {"ONEDNN_MAX_CPU_ISA": instructions, "MKL_ENABLE_INSTRUCTIONS": instructions.partition("_")[0]}
    environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done


def test_where_one_image_alone_is_convolved_otherwise_it_has_company(
    weights_file: Path, settings: Settings, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Classifier(weights_file, PREPROCESSING, settings, gpu_id=None)
    convolve, sizes = AlexNet.convolve, []

    def rounding_differently(self: AlexNet, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return convolve(self, images) + (1e-2 if len(images) == 1 else 0)

    expected = made.probabilities(pixels[:2])[0]
    monkeypatch.setattr(AlexNet, "convolve", rounding_differently)
    made = Classifier(weights_file, PREPROCESSING, settings, gpu_id=None)
    sizes.clear()
    assert torch.equal(made.probabilities(pixels[:1])[0], expected)
    assert sizes == [2]


def test_precision_and_device_can_be_set(weights_file: Path, settings: Settings) -> None:
    for precision in ("float32", "bfloat16"):
        made = Classifier(weights_file, PREPROCESSING, replace(settings, precision=precision, device="cpu"), gpu_id=3)
        assert f"precision={precision} device=cpu " in made.description


def test_the_description_names_bound_and_weights(weights_file: Path, settings: Settings) -> None:
    made = Classifier(weights_file, PREPROCESSING, settings, gpu_id=None)
    assert " max_batch=32 weights=untrained sha256=" in made.description
    assert "\n" not in made.description


def test_a_wrong_precision_is_one_clear_sentence(weights_file: Path, settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"^model-config.yaml: handler.precision is 'int4'; use auto, float32 or bf"):
        Classifier(weights_file, PREPROCESSING, replace(settings, precision="int4"), gpu_id=None)


def test_weights_that_do_not_fit_are_one_clear_sentence(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "alexnet.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"^alexnet.safetensors does not hold AlexNet's weights: "):
        Classifier(tmp_path / "alexnet.safetensors", PREPROCESSING, settings, gpu_id=None)
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(ValueError, match=r"^alexnet.safetensors does not hold AlexNet's weights: "):
        Classifier(tmp_path / "alexnet.safetensors", PREPROCESSING, settings, gpu_id=None)


def test_an_answer_that_is_not_finite_is_a_defect_and_not_json(weights_file: Path, settings: Settings) -> None:
    """Of its own request: it is judged where each is ranked."""
    made = Classifier(weights_file, PREPROCESSING, replace(settings, precision="float32"), gpu_id=None)
    for parameter in made._model.parameters():
        parameter.data = parameter.data * 1e30  # finite, and too large to be multiplied
    (row,) = made.probabilities([decode(encoded(gradient()), 10**8)])
    with pytest.raises(ArithmeticError):
        top_k(row, 5, [("n", "label")] * 1000)
