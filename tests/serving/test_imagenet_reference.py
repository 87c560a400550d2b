"""How the published weights classify photographs, if they are in the cache (scripts/package.sh puts them there)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from pipeline.artefact.download import cache_directory
from pipeline.artefact.model import MODEL, MODEL_NAME, Published
from pipeline.artefact.packing import pack
from pipeline.artefact.weights import Weights, load_weights
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text
from tests.support.reference import WEIGHTS, Reference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published() -> Weights:
    assert isinstance(MODEL.weights, Published)
    cached = cache_directory() / MODEL.weights.url.rsplit("/", 1)[1]
    if not cached.is_file():
        pytest.skip(f"the ImageNet weights are not in the cache ({cached}): scripts/package.sh downloads them")
    return load_weights("imagenet", lambda *_: None)


@pytest.fixture(scope="module")
def trained(published: Weights, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    made = tmp_path_factory.mktemp("trained")
    (made / "config").mkdir()
    shutil.copy(checkout / "config.properties", made / "config")
    pack(checkout / "handler", published, MODEL, made / "model-store" / "alexnet.mar")
    with TorchServe(made, MODEL_NAME, Ports.any_free()) as running:
        yield running


def ask(server: TorchServe, photograph: Path, top_k: int) -> list[dict[str, Any]]:
    body = {"instances": [{"b64": base64_text(photograph.read_bytes())}], "parameters": {"top_k": top_k}}
    response = httpx.post(server.predict_url, json=body, timeout=60, trust_env=False)
    return list(response.json()["predictions"][0]["classes"])


def test_the_server_agrees_with_torchvision(trained: TorchServe, published: Weights, photographs: list[Path]) -> None:
    state = {name: torch.from_numpy(array) for name, array in published.state.items()}
    expected = Reference(state).probabilities([photograph.read_bytes() for photograph in photographs])
    moved = []
    for photograph, row in zip(photographs, expected, strict=True):
        classes = ask(trained, photograph, top_k=1000)
        assert classes[0]["label"] == WEIGHTS.meta["categories"][int(row.argmax())]
        moved.append(max(abs(entry["probability"] - float(row[entry["index"]])) for entry in classes))
    assert sum(moved) / len(moved) <= 0.01  # five photographs are too few for the mean in test_parity.py


def test_grace_hopper_wears_a_military_uniform(trained: TorchServe, checkout: Path) -> None:
    found = ask(trained, checkout / "docs" / "photographs" / "grace_hopper.jpg", top_k=5)
    assert "military uniform" in {entry["label"] for entry in found}


def test_chelsea_is_a_cat(trained: TorchServe, checkout: Path) -> None:
    labels = {entry["label"] for entry in ask(trained, checkout / "docs" / "photographs" / "chelsea.jpg", top_k=5)}
    assert labels & {"tabby", "tiger cat", "Egyptian cat"}


def test_the_readme_shows_torchvisions_figures(trained: TorchServe, published: Weights, checkout: Path) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", (checkout / "README.md").read_text(), re.DOTALL)
    (prediction,) = json.loads(shown)["predictions"]
    kitten = checkout / "docs" / "kitten.jpg"
    state = {name: torch.from_numpy(array) for name, array in published.state.items()}
    (row,) = Reference(state).probabilities([kitten.read_bytes()])
    answered = ask(trained, kitten, top_k=len(prediction["classes"]))
    for expected, entry in zip(prediction["classes"], answered, strict=True):
        # A JPEG decoder of another version may move the last digit.
        assert expected["probability"] == pytest.approx(float(row[expected["index"]]), abs=1e-3)
        assert entry == expected | {"probability": pytest.approx(expected["probability"], abs=0.01)}
