"""An archive with an int8 network, packaged with pictures and served by a real TorchServe in int8."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
import pytest
import torch

from pipeline.artefact.model import read_model
from pipeline.artefact.packing import pack
from pipeline.commands.package import load
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.digests import sha256_of
from pipeline.shared.ports import Ports
from tests.support.int8_pictures import write_pictures
from vision.model import int8

pytestmark = [
    pytest.mark.usefixtures("one_worker"),
    pytest.mark.slow,
    pytest.mark.skipif(int8.refusal() is not None, reason=f"{int8.refusal()}"),
]

NETWORK = """
from torch import nn

def build(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 14 * 14, classes),
    )
"""
MODEL = """
name: pets
architecture: net.py:build
weights: pets.pth
labels: [cat, dog, rabbit]
preprocessing: {resize: 32, crop: 32}
"""


@pytest.fixture
def handler_in_int8(checkout: Path, tmp_path: Path) -> Path:
    """Uses int8 whichever is quicker for such a small network."""
    copy = shutil.copytree(checkout / "handler", tmp_path / "handler")
    config = copy / "model-config.yaml"
    said = config.read_text()
    assert said.count("precision: auto") == 1
    config.write_text(said.replace("precision: auto", "precision: int8"))
    return copy


def test_it_answers_as_the_float_network_does(checkout: Path, handler_in_int8: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "pets.yaml").write_text(MODEL)
    random = torch.Generator().manual_seed(8)
    shapes = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "3.weight": (8, 8, 3, 3), "3.bias": (8,)}
    state = {name: torch.randn(shape, generator=random) / 5 for name, shape in shapes.items()}
    state |= {"6.weight": torch.randn(3, 1568, generator=random) / 50, "6.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "pets.pth")
    pictures = write_pictures(tmp_path / "pictures", 24)
    served = tmp_path / "served"
    model, weights = load(read_model(tmp_path / "pets.yaml"))
    _, proof = pack(handler_in_int8, weights, model, served / "model-store" / "pets.mar", int8=pictures)
    assert proof.int8 is not None
    expected = {answer.sha256: answer for answer in proof.int8.answers}
    assert len(expected) == 12

    (served / "config").mkdir()
    shutil.copy(checkout / "config.properties", served / "config")
    said: list[str] = []
    with (
        TorchServe(served, "pets", Ports.any_free(), log=said.append) as serving,
        httpx.Client(trust_env=False, timeout=60) as http,
    ):
        asked = [(file, http.post(serving.predict_url, content=file.read_bytes())) for file in pictures.iterdir()]
        explained = http.post(
            serving.predict_url.replace(":predict", ":explain"), content=next(pictures.iterdir()).read_bytes()
        )
    assert set(re.findall(r"\bprecision=(\w+)", "\n".join(said))) == {"int8"}, "each worker says so"
    found = 0
    for file, answer in asked:
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["predictions"]
        if known := expected.get(sha256_of(file)):
            found += 1
            assert prediction["classes"][0]["index"] == known.int8 == known.float
    assert found == 12
    assert explained.status_code == 200, explained.text
