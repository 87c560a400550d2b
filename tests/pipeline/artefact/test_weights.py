"""Which weights are accepted, and which are refused and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.artefact.architecture import layout
from pipeline.artefact.checkpoint import read_checkpoint
from pipeline.artefact.labels import imagenet_classes
from pipeline.artefact.model import MODEL, Model, Published
from pipeline.artefact.weights import Weights, check_state, load_weights, network, untrained_state, with_classes
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
    """Answers depend on the image and are far from 1/1000: otherwise, tests could not tell images apart."""
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
    with pytest.raises(PipelineError, match=r"holds tensors that are not plain arrays of numbers, such as a$"):
        read_state(tmp_path / "weights.pth")


@pytest.mark.slow
def test_a_file_cannot_pass_for_the_published_weights(tmp_path: Path) -> None:
    """An archive's record of its weights later decides whether it may be published."""
    for name in ("imagenet.pth", "untrained.pth", "imagenet"):
        torch.save({key: torch.from_numpy(value) for key, value in untrained_state().items()}, tmp_path / name)
        assert load_weights(str(tmp_path / name), no_progress).origin == f"file {name}"


@pytest.mark.slow
def test_a_name_that_cannot_be_written_forges_no_log_line(tmp_path: Path) -> None:
    """The server logs the origin, and JSON in UTF-8 cannot hold names with other bytes."""
    file = tmp_path / "mine\nweights=imagenet\udcff.pth"
    torch.save({key: torch.from_numpy(value) for key, value in untrained_state().items()}, file)
    assert load_weights(str(file), no_progress).origin == "file mine?weights=imagenet?.pth"


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


# --- Of any architecture ----------------------------------------------------------------------------------------------


def model_of(architecture: str, classes: int = 0, crop: int = 224) -> Model:
    """With this many labels; none if the weights determine them."""
    labels: list[tuple[str | None, str]] = [(None, f"class {number}") for number in range(classes)]
    preprocessing = replace(MODEL.preprocessing, crop=crop)
    return replace(MODEL, architecture=architecture, classes=labels, labels="labels", preprocessing=preprocessing)


def loaded(folder: Path, state: Any, model: Model) -> Weights:
    torch.save(state, folder / "a.pth")
    return load_weights(folder / "a.pth", no_progress, model)


def older_densenet(name: str) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)


def older_vit(name: str) -> str:
    return name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")


def without_counters(name: str) -> str:
    return "" if name.endswith("num_batches_tracked") else name


def without_positions(name: str) -> str:
    return "" if name.endswith("relative_position_index") else name


def without_heads(name: str) -> str:
    return "" if re.match("aux|Aux", name) else name


def as_it_is(name: str) -> str:
    return name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "crop", "change"),
    [
        ("mobilenet_v3_small", 224, as_it_is),
        ("resnet18", 224, without_counters),
        ("densenet121", 224, older_densenet),
        ("vit_b_32", 224, older_vit),
        ("swin_t", 224, without_positions),
        ("googlenet", 224, as_it_is),
        ("googlenet", 224, without_heads),
        ("inception_v3", 299, as_it_is),
        ("squeezenet1_1", 224, as_it_is),
    ],
)
def test_a_network_with_its_weights_is_the_one_that_was_saved(
    tmp_path: Path, architecture: str, crop: int, change: Callable[[str], str]
) -> None:
    options = {"init_weights": False, "transform_input": True} if crop == 299 or architecture == "googlenet" else {}
    saved = torchvision.models.get_model(architecture, weights=None, num_classes=5, **options)
    model = model_of(architecture, 5, crop)
    weights = loaded(
        tmp_path, {change(name): tensor for name, tensor in saved.state_dict().items() if change(name)}, model
    )
    assert with_classes(model, weights) is model
    image = torch.rand(1, 3, crop, crop)
    with torch.inference_mode():
        np.testing.assert_array_equal(network(model, weights)(image), saved.eval()(image))


def test_whole_numbers_that_a_network_was_saved_with_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SHUFFLED)
    model = replace(model_of("net.py:Shuffled", 3, 8), file=tmp_path / "a.yaml")
    saved = {"order": torch.tensor([2, 0, 1]), "last.weight": torch.eye(3), "last.bias": torch.zeros(3)}
    built = network(model, loaded(tmp_path, saved, model))
    assert built(torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 8, 8)).tolist() == [[2, 0, 1]] * 2


SHUFFLED = """
import torch

class Shuffled(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.register_buffer("order", torch.arange(3))
        self.last = torch.nn.Linear(3, classes)

    def forward(self, images):
        return self.last(images.mean((2, 3))[:, self.order])
"""


@pytest.mark.parametrize("architecture", ["alexnet", "mobilenet_v3_small", "net.py:Shuffled"])
def test_untrained_weights_of_any_network_are_the_same_every_time(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "net.py").write_text(SHUFFLED)
    model = replace(model_of(architecture, 5), file=tmp_path / "a.yaml")
    one, other = (load_weights("untrained", no_progress, model) for _ in range(2))
    assert with_classes(model, one) is model
    assert not one.trained
    for name, array in one.state.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, other.state[name])


@pytest.mark.parametrize(
    ("architecture", "crop"), [("vit_b_32", 64), ("squeezenet1_1", 64), ("mobilenet_v3_small", 64)]
)
def test_untrained_networks_answer_sure_of_something(architecture: str, crop: int) -> None:
    """Otherwise, every parity test would pass."""
    model = model_of(architecture, 5, crop)
    answers = network(model, load_weights("untrained", no_progress, model))(torch.randn(2, 3, crop, crop)).softmax(
        dim=1
    )
    assert answers.max(dim=1).values.min() > 0.3
    assert not torch.equal(answers[0], answers[1])


def test_untrained_alexnet_never_changes(untrained: Weights) -> None:
    digest = sha256()
    for name, array in untrained.state.items():
        digest.update(name.encode() + array.tobytes())
    expected = "b5e3a5b8a45811bebb0e7f29d4495d7fa5a9f9ccffd4457f4a735f1a19044462"  # pragma: allowlist secret
    assert digest.hexdigest() == expected


def test_weights_by_torchvisions_name_are_those_that_it_publishes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port}")
    for name, file in {"IMAGENET1K_V1": "resnet50-0676ba61.pth", "imagenet": "resnet50-11ad3fa6.pth"}.items():
        with pytest.raises(PipelineError) as refusal:
            load_weights(name, no_progress, replace(model_of("resnet50"), weights="DEFAULT"))
        said = str(refusal.value)
        assert said.startswith(f"the weights could not be downloaded from https://download.pytorch.org/models/{file} (")
        assert f"put the file at {tmp_path}/hub/checkpoints/{file} yourself" in said


@pytest.mark.parametrize(
    ("architecture", "weights", "sentence"),
    [
        (
            "vgg16",
            "IMAGENET1K_FEATURES",
            "weights: VGG16_Weights.IMAGENET1K_FEATURES has no classes: write IMAGENET1K_V1",
        ),
        (
            "net.py:build",
            "DEFAULT",
            "weights: DEFAULT is torchvision's, and net.py:build is not: give the file of its own weights",
        ),
    ],
)
def test_weights_that_torchvision_has_not_for_this(architecture: str, weights: str, sentence: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        load_weights(weights, no_progress, model_of(architecture))
    assert str(refusal.value) == f"{MODEL.file}: {sentence}"


# --- Their classes ----------------------------------------------------------------------------------------------------


def of_classes(classes: int) -> Weights:
    state = zeros()
    last = {
        "classifier.6.weight": np.zeros((classes, 4096), np.float32),
        "classifier.6.bias": np.zeros(classes, np.float32),
    }
    return Weights("file a.pth", state | last)


def test_as_many_labels_as_outputs_are_needed() -> None:
    with pytest.raises(PipelineError) as refusal:
        with_classes(model_of("alexnet", 4), of_classes(5))
    assert str(refusal.value) == (
        "the weights (file a.pth) have 5 outputs, but there are 4 labels: "
        "give one label for each output, in order, with labels: or --labels FILE"
    )


def test_without_labels_a_thousand_outputs_are_imagenets_and_others_are_refused() -> None:
    model = with_classes(model_of("alexnet"), of_classes(1000))
    assert model.classes == imagenet_classes()
    assert model.notes == ("labels: ImageNet's, as there are 1000 outputs and no labels were given",)
    published = Weights("AlexNet_Weights.IMAGENET1K_V1", of_classes(1000).state)
    assert with_classes(model_of("alexnet"), published).notes == ()
    with pytest.raises(PipelineError) as refusal:
        with_classes(model_of("alexnet"), of_classes(5))
    assert str(refusal.value) == (
        f"{MODEL.file}: labels is missing, and the weights (file a.pth) have 5 outputs: "
        "give a list of 5 labels in order, or a file with one label per line"
    )


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
        (other_classes, "its last layer has both 10 and 1000 classes"),
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
