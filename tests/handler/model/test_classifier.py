"""Batches, their bounds, and what a worker refuses to load."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from reliability.decoding import decode
from reliability.pictures import encoded, gradient
from tests.support import company
from tests.support.company import answers_that_differ
from vision.model import classifier
from vision.model.classifier import Classifier
from vision.model.facts import Facts
from vision.model.network import Network
from vision.model.ranking import top_k
from vision.model.weights import PROGRAM, WEIGHTS
from vision.worker.settings import Settings

Load = Callable[..., Classifier]


@pytest.fixture(scope="module")
def load(model_dir: Path, facts: Facts, settings: Settings) -> Load:
    """The packed network, with other settings."""
    return lambda **changes: Classifier(model_dir, facts, replace(settings, **changes), gpu_id=None)


@pytest.fixture(scope="module")
def pixels() -> list[np.ndarray]:
    return [decode(encoded(gradient(300 + 10 * n, 300)), 10**8) for n in range(7)]


def test_batches_are_split_at_the_bound_and_keep_their_order(
    load: Load, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load(max_batch=3, precision="float32")
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


def test_a_bound_of_one_is_one(load: Load, pixels: list[np.ndarray]) -> None:
    assert load(max_batch=1).probabilities(pixels[:2]).shape == (2, 1000)


@pytest.fixture(scope="module")
def views(photographs: list[Path]) -> np.ndarray:
    """uint8 of shape (35, 224, 224, 3): rounding shows on some pictures and not on others."""
    found = []
    for photograph in photographs:
        with Image.open(photograph) as image:
            side = min(image.size) - 30
            corners = [(left, top) for left in (0, 10, 20) for top in (0, 20)] + [(10, 10)]
            boxes = [(left, top, left + side, top + side) for left, top in corners]
            found += [np.asarray(image.convert("RGB").resize((224, 224), box=box)) for box in boxes]
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_answer_does_not_depend_on_its_company(precision: str, load: Load, views: np.ndarray) -> None:
    made = load(precision=precision)
    assert answers_that_differ(made, list(views)) == []


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_nor_does_it_on_processors_with_fewer_instructions(
    instructions: str, model_dir: Path, views: np.ndarray, tmp_path: Path
) -> None:
    """oneDNN and MKL then choose the kernels for an older processor, which computes in float32."""
    np.save(tmp_path / "pixels.npy", views[::3])
    command = [sys.executable, "-P", company.__file__, str(model_dir), str(tmp_path / "pixels.npy")]
    limits = {"ONEDNN_MAX_CPU_ISA": instructions, "MKL_ENABLE_INSTRUCTIONS": instructions.partition("_")[0]}
    environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done


Otherwise = Callable[[int], list[int]]


@pytest.fixture
def otherwise(monkeypatch: pytest.MonkeyPatch) -> Otherwise:
    """Batches of up to `most` images get other logits, as on another processor → the sizes of the batches, in order."""
    compute, sizes = Network.__call__, []

    def otherwise(most: int) -> list[int]:
        def computed(self: Network, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            logits: torch.Tensor = compute(self, images)
            return logits * (1 + 1e-3 * (len(images) <= most))

        monkeypatch.setattr(Network, "__call__", computed)
        return sizes

    return otherwise


@pytest.mark.parametrize("few", [1, 2, 3])
def test_where_few_images_are_computed_otherwise_they_have_company(
    few: int, load: Load, pixels: list[np.ndarray], otherwise: Otherwise
) -> None:
    expected = load().probabilities(pixels[:4])
    sizes = otherwise(few)
    made = load()
    sizes.clear()
    for count in range(1, 5):
        assert torch.equal(made.probabilities(pixels[:count]), expected[:count])
    assert sizes == [max(count, few + 1) for count in range(1, 5)]
    assert f" images_at_least={few + 1} " in made.description


def test_so_they_have_where_others_had_the_processor_at_the_start(
    load: Load, pixels: list[np.ndarray], otherwise: Otherwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the wall clock, each step then takes ten seconds: long enough to skip further runs."""
    expected = load().probabilities(pixels[:1])
    otherwise(3)
    late = SimpleNamespace(monotonic=itertools.count(0, 10).__next__, thread_time=time.thread_time)
    monkeypatch.setattr(classifier, "time", late)
    made = load()
    assert torch.equal(made.probabilities(pixels[:1]), expected)
    assert " images_at_least=4 " in made.description


def test_precision_and_device_can_be_set(model_dir: Path, facts: Facts, settings: Settings) -> None:
    for precision in ("float32", "bfloat16"):
        made = Classifier(model_dir, facts, replace(settings, precision=precision, device="cpu"), gpu_id=3)
        assert f"precision={precision} device=cpu " in made.description


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a process has mapped")
@pytest.mark.parametrize(("precision", "shared"), [("float32", True), ("bfloat16", False)])
def test_workers_share_the_weights_of_one_file_or_let_go_of_all_of_it(
    precision: str, shared: bool, model_dir: Path, facts: Facts, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / PROGRAM).symlink_to(model_dir / PROGRAM)
    (tmp_path / WEIGHTS).hardlink_to(model_dir / WEIGHTS)  # a name that nothing else has mapped
    made = Classifier(tmp_path, facts, replace(settings, precision=precision, device="cpu"), gpu_id=None)
    mapped = Path("/proc/self/maps").read_text()
    assert made.precision == precision
    assert (str(tmp_path / WEIGHTS) in mapped) == shared


def test_the_description_is_one_line_with_bound_and_weights(load: Load) -> None:
    assert re.fullmatch(
        r"precision=\w+ device=cpu threads=\d+ max_batch=32 classes=1000 ms_an_image=\d+\.\d "
        r"images_at_least=\d weights=untrained sha256=[0-9a-f]{64}",
        load().description,
    )


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_wrong_precision_is_one_clear_sentence(load: Load) -> None:
    with pytest.raises(ValueError, match=r"^model-config.yaml: handler.precision is 'int4'; use auto, float32, bf"):
        load(precision="int4")


def test_bfloat16_is_not_taken_where_packaging_saw_other_answers(
    model_dir: Path, facts: Facts, settings: Settings
) -> None:
    precise = replace(facts, bfloat16=False)
    made = Classifier(model_dir, precise, replace(settings, precision="auto"), gpu_id=None)
    assert made.description.startswith("precision=float32 ")
    with pytest.raises(
        ValueError, match=r"^model-config.yaml: handler.precision is bfloat16, which changes .* use auto or"
    ):
        Classifier(model_dir, precise, replace(settings, precision="bfloat16"), gpu_id=None)


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A folder with the network, whose files a test may replace."""
    for name in (PROGRAM, WEIGHTS):
        (tmp_path / name).symlink_to(model_dir / name)
    return tmp_path


def refusal(folder: Path, facts: Facts, settings: Settings) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        Classifier(folder, facts, settings, gpu_id=None)
    return str(refused.value)


NO_NETWORK = "program.json does not fit these weights: "


def test_weights_that_do_not_fit_are_one_clear_sentence(copy: Path, facts: Facts, settings: Settings) -> None:
    (copy / WEIGHTS).unlink()
    assert refusal(copy, facts, settings).startswith("weights.safetensors cannot be read: ")
    (copy / WEIGHTS).write_bytes(b"no weights")
    assert refusal(copy, facts, settings).startswith("weights.safetensors cannot be read: ")
    save_file({"features.0.weight": torch.zeros(3)}, copy / WEIGHTS)
    assert refusal(copy, facts, settings) == f"{NO_NETWORK}nodes[0]: bias: there is no such weight"


def test_weights_of_another_shape_are_one_clear_sentence(copy: Path, facts: Facts, settings: Settings) -> None:
    with safe_open(copy / WEIGHTS, framework="pt") as file:
        few = {name: torch.zeros(3) for name in file.keys()}  # noqa: SIM118
    (copy / WEIGHTS).unlink()
    save_file(few, copy / WEIGHTS)
    assert refusal(copy, facts, settings).startswith(f"{NO_NETWORK}nodes[")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_program_is_one_clear_sentence(
    content: bytes | None, copy: Path, facts: Facts, settings: Settings
) -> None:
    (copy / PROGRAM).unlink()
    if content is not None:
        (copy / PROGRAM).write_bytes(content)
    assert refusal(copy, facts, settings).startswith(NO_NETWORK)


def test_a_program_for_images_of_another_size_is_one_clear_sentence(
    model_dir: Path, facts: Facts, settings: Settings
) -> None:
    larger = replace(facts, preprocessing=replace(facts.preprocessing, crop=240))
    assert refusal(model_dir, larger, settings) == "program.json is for 224 pixels, but model.yaml crops 240"


def test_an_answer_that_is_not_finite_is_a_defect_and_not_json(load: Load) -> None:
    """It only concerns its own request, because rows are checked one by one."""
    made = load(precision="float32")
    weights = made._network._weights
    weights.update({name: tensor * 1e30 for name, tensor in weights.items()})  # finite, but too large to multiply
    (row,) = made.probabilities([decode(encoded(gradient()), 10**8)])
    with pytest.raises(ArithmeticError):
        top_k(row, 5, [("n", "label")] * 1000)
