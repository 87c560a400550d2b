"""A map points at the part of the picture that determines the class, in networks where that part is known."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.image.preprocessing import Preprocessing
from vision.model.classifier import Classifier
from vision.model.explanation import LEAST_WINDOWS, Explainer
from vision.model.facts import Facts
from vision.model.weights import PROGRAM, WEIGHTS
from vision.worker.settings import Settings

SIDE = 64
GREY = [0.5, 0.5, 0.5]
RED, GREEN, BLUE = range(3)

Json = dict[str, Any]
Explained = Callable[..., Explainer]


@pytest.fixture
def explained(tmp_path: Path, settings: Settings) -> Explained:
    """An explainer for a network defined here."""

    def explained(nodes: list[Any], weights: dict[str, torch.Tensor], precision: str = "float32") -> Explainer:
        said = {"format": 1, "side": SIDE, "output": len(nodes) - 1, "nodes": nodes}
        (tmp_path / PROGRAM).write_text(json.dumps(said))
        save_file(weights, tmp_path / WEIGHTS)
        facts = Facts("tiny", "classes.json", Preprocessing(SIDE, SIDE, GREY, GREY), bfloat16=True)
        made = Classifier(tmp_path, facts, replace(settings, device="cpu", precision=precision), gpu_id=None)
        return Explainer(made, GREY)

    return explained


def ref(node: int) -> Json:
    return {"node": node}


def weight(name: str) -> Json:
    return {"weight": name}


def conv(kernel: int) -> list[Any]:
    return ["conv2d", [ref(-1), weight("conv"), None, [kernel, kernel]]]


def of_colours(kernel: int) -> dict[str, torch.Tensor]:
    """Two channels: how red and how green each square of pixels is; a class for each, and one for neither."""
    weights = torch.zeros(2, 3, kernel, kernel)
    weights[0, RED] = weights[1, GREEN] = 1 / kernel**2
    return {"conv": weights, "fc": torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]])}


POOLED = [["adaptive_avg_pool2d", [ref(1), [1, 1]]], ["view", [ref(2), [{"batch": 1}, 2]]]]
# 8 × 8 squares, ReLU, mean, and a linear layer: the end of torchvision's ResNet.
COLOURS = [conv(8), ["relu", [ref(0)]], *POOLED, ["linear", [ref(3), weight("fc")]]]


def painted(**squares: tuple[int, int]) -> np.ndarray:
    """Black with coloured squares of 8 pixels, each at its row and column of eight."""
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    for colour, (row, column) in squares.items():
        image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8, ["red", "green", "blue"].index(colour)] = 255
    return image


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_points_at_the_square_that_makes_the_class(explained: Explained, precision: str) -> None:
    explainer = explained(COLOURS, of_colours(8), precision)
    image = painted(red=(1, 6), green=(5, 2))
    for class_index, place in ((RED, (1, 6)), (GREEN, (5, 2))):
        expected = np.zeros((8, 8), dtype=np.float32)
        expected[place] = 1
        heat = explainer.heat(image, class_index)
        assert heat.dtype == np.float32
        np.testing.assert_array_equal(heat, expected)


def test_a_class_that_nothing_speaks_for_has_a_flat_map(explained: Explained) -> None:
    explainer = explained(COLOURS, of_colours(8))
    image = painted(red=(1, 6))
    assert not explainer.heat(image, GREEN).any()
    assert not explainer.heat(image, 2).any()  # all its weights are 0


def test_the_map_is_the_one_before_the_last_pooling(explained: Explained) -> None:
    """Like packed AlexNet: convolution, pooling, ReLU, pooling. After the first pooling, only 4 × 4 would be left."""
    nodes = [
        conv(8),
        ["max_pool2d", [ref(0), [2, 2], [2, 2]]],
        ["relu", [ref(1)]],
        ["adaptive_avg_pool2d", [ref(2), [1, 1]]],
        ["flatten.using_ints", [ref(3), 1]],
        ["linear", [ref(4), weight("fc")]],
    ]
    heat = explained(nodes, of_colours(8)).heat(painted(red=(1, 6)), RED)
    assert heat.shape == (8, 8)
    assert heat[1, 6] == heat.sum() == 1


def test_channels_may_come_last(explained: Explained) -> None:
    """As in timm's Swin."""
    nodes = [
        conv(8),
        ["permute", [ref(0), [0, 2, 3, 1]]],
        ["gelu", [ref(1)]],
        ["mean.dim", [ref(2), [1, 2]]],
        ["linear", [ref(3), weight("fc")]],
    ]
    heat = explained(nodes, of_colours(8)).heat(painted(red=(1, 6)), RED)
    assert heat.shape == (8, 8)
    assert heat[1, 6] == heat.max() == 1
    assert heat.sum() == 1


def test_what_is_written_over_for_predictions_can_still_be_differentiated(explained: Explained) -> None:
    """SiLU and a product that overwrite their input, which the gradient needs."""
    nodes = [
        conv(8),
        ["relu", [ref(0)]],
        *POOLED,
        ["linear", [ref(3), weight("hidden")]],
        ["sigmoid", [ref(4)]],
        ["mul.Tensor", [ref(5), ref(3)]],
        ["silu", [ref(6)]],
        ["linear", [ref(7), weight("fc")]],
    ]
    heat = explained(nodes, {**of_colours(8), "hidden": torch.eye(2)}).heat(painted(red=(1, 6)), RED)
    assert heat[1, 6] == heat.max() == 1


# --- Without such a layer ---------------------------------------------------------------------------------------------


def tokens() -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Like a ViT: squares become a row of tokens, each passes through a layer, and then they are combined."""
    nodes = [
        conv(16),
        ["flatten.using_ints", [ref(0), 2]],
        ["permute", [ref(1), [0, 2, 1]]],
        ["linear", [ref(2), weight("mix")]],
        ["mean.dim", [ref(3), [1]]],
        ["linear", [ref(4), weight("fc")]],
    ]
    return nodes, {**of_colours(16), "mix": torch.eye(2)}


def test_what_has_only_tokens_is_covered_part_by_part(explained: Explained) -> None:
    explainer = explained(*tokens())
    image = painted(red=(1, 6), green=(5, 2))
    heat = explainer.heat(image, RED)
    rows = len(heat)
    assert rows >= LEAST_WINDOWS
    assert heat.shape == (rows, rows)
    assert divmod(int(heat.argmax()), rows) == (12 * rows // SIDE, 52 * rows // SIDE)
    assert heat.max() == 1
    assert heat.min() == 0
    assert np.array_equal(image, painted(red=(1, 6), green=(5, 2)))


def test_what_cannot_be_differentiated_is_covered_too(explained: Explained) -> None:
    """A threshold has no gradient: a class for pictures with more red than black, decided by the upper half alone."""
    nodes = [
        conv(8),
        *[["adaptive_avg_pool2d", [ref(0), [1, 1]]], ["view", [ref(1), [{"batch": 1}, 2]]]],
        ["gt.Scalar", [ref(2), 0.0]],
        ["where.self", [ref(3), weight("one"), weight("zero")]],
        ["linear", [ref(4), weight("fc")]],
    ]
    explainer = explained(nodes, {**of_colours(8), "one": torch.ones(1), "zero": torch.zeros(1)})
    assert "explained_by=occlusion" in explainer.description
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[: SIDE // 2, :, RED] = image[SIDE // 2, : SIDE // 2, RED] = 255
    heat = explainer.heat(image, RED)
    assert (heat[0] == 1).all()
    assert not heat[-1].any()


def test_covering_what_does_not_matter_is_a_flat_map(explained: Explained) -> None:
    nodes, weights = tokens()
    heat = explained(nodes, {**weights, "fc": torch.zeros(3, 2)}).heat(painted(red=(1, 6)), RED)
    assert not heat.any()


def test_what_takes_too_long_for_that_is_refused(explained: Explained, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("AMPLE_S", "LONGEST_S"):
        monkeypatch.setattr(f"vision.model.explanation.{bound}", 0)
    explainer = explained(*tokens())
    assert explainer.refusal is not None
    assert "no last layer with rows and columns" in explainer.refusal
    assert explained(COLOURS, of_colours(8)).refusal is None


def test_what_takes_a_while_has_the_fewest_windows(explained: Explained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision.model.explanation.AMPLE_S", 0)
    assert explained(*tokens()).heat(painted(red=(1, 6)), RED).shape == (LEAST_WINDOWS, LEAST_WINDOWS)


# --- The effect on predictions ----------------------------------------------------------------------------------------


def test_predictions_are_as_they_were_and_nothing_stays(explained: Explained) -> None:
    explainer = explained(COLOURS, of_colours(8))
    classifier, image = explainer._classifier, painted(red=(1, 6), green=(5, 2))
    before = classifier.logits([image])
    threads = torch.get_num_threads()
    explainer.heat(image, RED)
    gc.collect()
    kept = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    explainer.heat(image, GREEN)
    gc.disable()
    try:
        explainer.heat(image, RED)
        assert sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()) == kept  # without waiting for gc
    finally:
        gc.enable()
    after = classifier.logits([image])
    assert torch.equal(before, after)
    assert after.grad_fn is None
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads


def test_its_time_is_known_before_the_first_is_asked(explained: Explained) -> None:
    assert 0 < explained(COLOURS, of_colours(8)).image_s < float("inf")
    assert 0 < explained(*tokens()).image_s < float("inf")


def test_an_alexnet_has_maps_of_13_rows(model_dir: Path, facts: Facts, settings: Settings) -> None:
    explainer = Explainer(Classifier(model_dir, facts, settings, gpu_id=None), facts.preprocessing.mean)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert explainer.heat(image, 0).shape == (13, 13)


def test_a_map_that_is_not_finite_is_no_map(explained: Explained) -> None:
    explainer = explained(COLOURS, {**of_colours(8), "fc": torch.full((3, 2), float("nan"))})
    with pytest.raises(ArithmeticError, match="not finite"):
        explainer.heat(painted(red=(1, 6)), RED)
