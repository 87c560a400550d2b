"""Which weights are taken, which are refused and why, and what they become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors import safe_open

from pipeline.artefact.architecture import layout
from pipeline.artefact.checkpoint import read_checkpoint
from pipeline.artefact.model import MODEL, Published
from pipeline.artefact.weights import Weights, check_state, load_weights, to_safetensors, untrained_state
from pipeline.shared.errors import PipelineError
from tests.support.reference import WEIGHTS, Reference, torchvision

FILE = Path("somewhere/weights.pth")
LAYOUT = layout("alexnet", crop=224)
SHAPES = {name: tuple(size or 1000 for size in shape) for name, shape in LAYOUT.shapes.items()}
Save = Callable[[Any, Path], None]


def no_progress(*_: int) -> None:
    raise AssertionError("nothing is downloaded here")


def read_state(file: Path) -> dict[str, np.ndarray]:
    return read_checkpoint(file, LAYOUT.shapes).state


def zeros() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


# --- What AlexNet is --------------------------------------------------------------------------------------------------


def test_the_shapes_are_torchvisions() -> None:
    reference = torchvision.models.alexnet().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in reference.items()} == SHAPES
    assert list(reference) == list(SHAPES)


def test_the_imagenet_weights_are_torchvisions() -> None:
    assert isinstance(MODEL.weights, Published)
    assert WEIGHTS.url == MODEL.weights.url
    assert MODEL.weights.url.endswith(f"-{MODEL.weights.sha256[:8]}.pth")
    assert len(bytes.fromhex(MODEL.weights.sha256)) == 32


# --- Untrained weights ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_untrained_weights_are_the_same_every_time(untrained: Weights) -> None:
    again = load_weights("untrained", no_progress)
    assert not again.trained
    assert again.origin == untrained.origin == "untrained"
    assert list(again.state) == list(SHAPES)
    for name, array in again.state.items():
        np.testing.assert_array_equal(array, untrained.state[name])


def test_untrained_weights_fit_and_depend_on_the_seed(untrained: Weights) -> None:
    check_state(untrained.state, LAYOUT, "alexnet", FILE)
    assert {array.dtype for array in untrained.state.values()} == {np.dtype(np.float32)}
    another = untrained_state(seed=1)
    check_state(another, LAYOUT, "alexnet", FILE)
    assert not np.array_equal(another["features.0.weight"], untrained.state["features.0.weight"])


def test_untrained_logits_spread(untrained: Weights, photographs: list[Path]) -> None:
    """Answers depend on the image and are far from 1/1000: else tests could not tell images apart."""
    reference = Reference({name: torch.from_numpy(array) for name, array in untrained.state.items()})
    probabilities = reference.probabilities([photograph.read_bytes() for photograph in photographs])
    assert probabilities.max(dim=1).values.min() > 0.01
    assert (probabilities[1:] - probabilities[0]).abs().amax(dim=1).min() > 0.01


# --- Reading files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.empty(2, device="meta")], ids=["sparse", "without data"]
)
def test_tensors_that_are_no_plain_arrays_are_told_so(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "weights.pth")
    with pytest.raises(PipelineError, match=r"holds tensors that are not plain arrays of numbers: a is one$"):
        read_state(tmp_path / "weights.pth")


@pytest.mark.slow
def test_a_file_cannot_pass_for_the_published_weights(tmp_path: Path) -> None:
    """What an archive says of its weights decides later whether it may be published."""
    for name in ("imagenet.pth", "untrained.pth", "imagenet"):
        torch.save({key: torch.from_numpy(value) for key, value in untrained_state().items()}, tmp_path / name)
        assert load_weights(str(tmp_path / name), no_progress).origin == f"file {name}"


@pytest.mark.slow
def test_a_name_that_cannot_be_written_forges_no_log_line(tmp_path: Path) -> None:
    """The server logs the origin; and JSON in UTF-8 has no place for a name of other bytes."""
    file = tmp_path / "mine\nweights=imagenet\udcff.pth"
    torch.save({key: torch.from_numpy(value) for key, value in untrained_state().items()}, file)
    weights = load_weights(str(file), no_progress)
    assert weights.origin == "file mine?weights=imagenet?.pth"
    to_safetensors(weights)


@pytest.mark.slow
def test_a_pth_file_of_torchvisions_alexnet_is_taken(tmp_path: Path) -> None:
    model = torchvision.models.alexnet()
    file = tmp_path / "mine.pth"
    torch.save(model.state_dict(), file)
    weights = load_weights(str(file), no_progress)
    assert weights.origin == "file mine.pth"
    assert weights.trained
    assert weights.state.keys() == SHAPES.keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(weights.state[name], tensor.numpy())


def save_safetensors(state: dict[str, torch.Tensor], file: Path) -> None:
    safetensors.torch.save_file(state, file)


@pytest.mark.parametrize(
    ("save", "suffix"), [(torch.save, ".pth"), (torch.save, ""), (save_safetensors, ".safetensors")]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_precision_is_taken_as_float32(tmp_path: Path, save: Save, suffix: str, dtype: torch.dtype) -> None:
    values = torch.tensor([[1.5, -2.0], [0.25, 640.0]], dtype=dtype)
    save({"a": values}, tmp_path / f"weights{suffix}")
    state = read_state(tmp_path / f"weights{suffix}")
    assert list(state) == ["a"]
    assert state["a"].dtype == np.float32
    np.testing.assert_array_equal(state["a"], values.float().numpy())


def test_arrays_are_contiguous_whatever_the_file_has(tmp_path: Path) -> None:
    values = torch.arange(6.0).reshape(2, 3).T
    torch.save({"a": values}, tmp_path / "weights.pth")
    state = read_state(tmp_path / "weights.pth")
    assert state["a"].flags.c_contiguous
    np.testing.assert_array_equal(state["a"], values.numpy())


def test_parameters_are_taken_like_tensors(tmp_path: Path) -> None:
    """`torch.save(dict(model.named_parameters()), …)` is a common way to save weights too."""
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "weights.pth")
    np.testing.assert_array_equal(read_state(tmp_path / "weights.pth")["a"], np.ones(2, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "place"),
    [
        (lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, ""),
        (
            lambda state: {"epoch": 1, "state_dict": {f"model.{name}": it for name, it in state.items()}},
            "state_dict.model",
        ),
        (lambda state: {"model": state, "model_ema": {**state, "n_averaged": torch.tensor(1)}}, "model_ema"),
    ],
    ids=["DataParallel", "Lightning", "averaged"],
)
def test_where_the_weights_were_in_a_checkpoint_is_their_origin(
    tmp_path: Path, untrained: Weights, checkpoint: Callable[[Any], Any], place: str
) -> None:
    state = {name: torch.from_numpy(value).half() for name, value in untrained.state.items()}
    torch.save(checkpoint(state), tmp_path / "a.pth")
    weights = load_weights(str(tmp_path / "a.pth"), no_progress)
    assert (weights.origin, weights.trained) == (f"file a.pth ({place})" if place else "file a.pth", True)
    assert weights.passed_over == ()  # they are the same
    for name, array in weights.state.items():
        np.testing.assert_array_equal(array, state[name].float().numpy())


# --- Do they fit? -----------------------------------------------------------------------------------------------------


def drop(state: dict[str, np.ndarray]) -> None:
    del state["classifier.6.bias"]


def add(state: dict[str, np.ndarray]) -> None:
    state["classifier.7.bias"] = np.zeros(1, np.float32)


def other_classes(state: dict[str, np.ndarray]) -> None:
    state["classifier.6.bias"] = np.zeros(10, np.float32)


def not_a_number(state: dict[str, np.ndarray]) -> None:
    state["features.3.weight"][-1, -1, -1, -1] = np.nan


def infinite(state: dict[str, np.ndarray]) -> None:
    state["features.3.bias"][0] = -np.inf


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (drop, "classifier.6.bias is missing"),
        (add, "classifier.7.bias is not one of its weights"),
        (other_classes, "its last layer is of 10 and of 1000 classes"),
        (not_a_number, "features.3.weight has values that are not finite"),
        (infinite, "features.3.bias has values that are not finite"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(spoil: Callable[[dict[str, np.ndarray]], None], fact: str) -> None:
    state = zeros()
    check_state(state, LAYOUT, "alexnet", FILE)
    spoil(state)
    with pytest.raises(PipelineError) as refusal:
        check_state(state, LAYOUT, "alexnet", FILE)
    assert str(refusal.value) == f"{FILE} does not fit alexnet: {fact}"


def test_many_misfits_are_counted_and_the_first_is_the_same_every_time() -> None:
    state = {f"layers.{name}": np.zeros(1, np.float32) for name in reversed(SHAPES)}
    with pytest.raises(PipelineError, match=r": classifier\.1\.bias is missing \(and 31 more\)$"):
        check_state(state, LAYOUT, "alexnet", FILE)


# --- What they become -------------------------------------------------------------------------------------------------

SERIALIZE = """
import sys, numpy
from pipeline.artefact.weights import Weights, to_safetensors
state = {name: numpy.full((2, 3), number, numpy.float32) for number, name in enumerate(sys.argv[1:])}
files = {to_safetensors(Weights("tiny", state)) for _ in range(20)}
assert len(files) == 1, "they differ within one process"
sys.stdout.buffer.write(files.pop())
"""


def test_equal_weights_give_equal_bytes_in_every_process(importable: dict[str, str]) -> None:
    """safetensors orders its metadata anew each time."""

    def serialize(hash_seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-P", "-c", SERIALIZE, "b", "c", "a"],
            env=importable | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

    assert serialize("1") == serialize("2")


def test_the_order_of_the_names_does_not_matter() -> None:
    state = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}
    assert to_safetensors(Weights("x", state)) == to_safetensors(Weights("x", dict(reversed(state.items()))))


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    state = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float32)}
    file = to_safetensors(Weights("tiny", state))
    read = safetensors.numpy.load(file)
    assert read.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(read[name], array)
    (tmp_path / "weights.safetensors").write_bytes(file)
    assert read_state(tmp_path / "weights.safetensors").keys() == state.keys()


def metadata(weights: Weights, folder: Path) -> dict[str, str]:
    (folder / "weights.safetensors").write_bytes(to_safetensors(weights))
    with safe_open(folder / "weights.safetensors", framework="numpy") as opened:
        return dict(opened.metadata())


def test_the_metadata_says_where_the_weights_come_from_and_what_they_are(tmp_path: Path) -> None:
    state = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}
    said = metadata(Weights("mine.pth", state), tmp_path)
    assert said.keys() == {"weights", "sha256"}
    assert said["weights"] == "mine.pth"
    assert len(bytes.fromhex(said["sha256"])) == 32
    assert metadata(Weights("yours.pth", dict(reversed(state.items()))), tmp_path)["sha256"] == said["sha256"]
    assert metadata(Weights("mine.pth", state | {"a": np.zeros(2, np.float32)}), tmp_path)["sha256"] != said["sha256"]


@pytest.mark.parametrize("name", ['quo"ted.pth', "back\\slash.pth", "Gewichte – ü.pth", "tab\t.pth", "del\x7f.pth"])
def test_a_file_name_with_odd_characters_survives(tmp_path: Path, name: str) -> None:
    weights = Weights(name, {"a": np.ones(1, np.float32)})
    assert metadata(weights, tmp_path)["weights"] == name
    header = to_safetensors(weights)[8:]
    assert json.loads(header[: header.index(b"}}") + 2])["__metadata__"]["weights"] == name
