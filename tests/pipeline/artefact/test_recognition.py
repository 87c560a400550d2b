"""The error for another architecture's weights names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.artefact.architecture import layout
from pipeline.artefact.model import MODEL
from pipeline.artefact.recognition import layouts
from pipeline.artefact.weights import load_weights
from pipeline.shared.errors import PipelineError

OWN = "set architecture: file.py:function to the function that built the network for training"
State = dict[str, torch.Tensor]


def state_of(architecture: str, classes: int = 1000, crop: int = 224) -> State:
    """Float16 zeros that all share one number in the file."""
    zero = torch.zeros(1, dtype=torch.float16)
    shapes = layout(architecture, crop).shapes
    return {name: zero.expand([size or classes for size in shape]) for name, shape in shapes.items()}


def refusal(folder: Path, state: Any, architecture: str = "alexnet") -> str:
    torch.save(state, folder / "a.pth")
    with pytest.raises(PipelineError) as refused:
        load_weights(folder / "a.pth", lambda *_: None, replace(MODEL, architecture=architecture))
    sentence = str(refused.value)
    assert sentence.isprintable()
    assert sentence.startswith(f"{folder}/a.pth does not fit {architecture}: ")
    return sentence


@pytest.mark.slow
def test_no_two_classifiers_have_the_same_layout() -> None:
    found = {name: tuple(sorted(one.shapes.items(), key=str)) for name, one in layouts().items()}
    assert len(set(found.values())) == len(found) == 80
    assert all(any(None in shape for _, shape in shapes) for shapes in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "classes", "place"),
    [
        ("resnet34", 5, "{}"),
        ("resnet50", 5, "module.{}"),
        ("wide_resnet50_2", 1000, "{}"),
        ("vgg16_bn", 3, "_orig_mod.module.{}"),
        ("swin_t", 7, "{}"),
        ("vit_b_16", 5, "{}"),
        ("densenet121", 5, "model.{}"),
        ("googlenet", 5, "{}"),
    ],
)
def test_it_is_told_by_name(tmp_path: Path, architecture: str, classes: int, place: str) -> None:
    state = {place.format(name): tensor for name, tensor in state_of(architecture, classes).items()}
    said = refusal(tmp_path, {"state_dict": state, "epoch": 3})
    assert said.endswith(f": it looks like {architecture}: write architecture: {architecture} in a model file")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet18", "alexnet"])
def test_a_head_of_ones_own_is_told(tmp_path: Path, architecture: str) -> None:
    state = state_of("resnet18")
    state["fc.1.weight"], state["fc.1.bias"] = torch.zeros(4, 512), torch.zeros(4)
    del state["fc.weight"], state["fc.bias"]
    said = refusal(tmp_path, state, architecture)
    part = "it looks like resnet18 with a different last part (fc.1.weight, where torchvision has fc.weight)"
    assert said.endswith(f": {part}: {OWN}")


def longer(state: State) -> None:
    for number, shape in enumerate([(256, 4096), (3, 256)]):
        state[f"classifier.6.{2 * number}.weight"] = torch.zeros(shape)
        state[f"classifier.6.{2 * number}.bias"] = torch.zeros(shape[0])
    del state["classifier.6.weight"], state["classifier.6.bias"]


def none(state: State) -> None:
    for name in [name for name in state if name.startswith("classifier")]:
        del state[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (longer, "classifier.6.0.weight, where torchvision has classifier.6.weight"),
        (none, "classifier.1.weight, where torchvision has classifier.1.weight"),
    ],
)
def test_alexnet_with_another_head_is_alexnet(tmp_path: Path, change: Callable[[State], None], part: str) -> None:
    state = state_of("alexnet")
    change(state)
    assert refusal(tmp_path, state).endswith(f"it looks like alexnet with a different last part ({part}): {OWN}")


@pytest.mark.slow
def test_a_vit_of_another_size_is_told_with_the_size(tmp_path: Path) -> None:
    said = refusal(tmp_path, state_of("vit_b_16", 5, crop=384), "vit_b_16")
    size = "write preprocessing: {resize: 384, crop: 384} in a model file"
    assert said.endswith(f": it looks like vit_b_16 for images of 384 pixels: {size}")
    said = refusal(tmp_path, state_of("vit_b_16", 5, crop=384), "resnet18")
    assert said.endswith(size.replace("write ", "write architecture: vit_b_16, "))


@pytest.mark.slow
def test_of_others_nothing_is_said(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    assert "looks like" not in refusal(tmp_path, state)
