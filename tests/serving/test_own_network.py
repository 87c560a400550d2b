"""A user's own torch.nn.Module with her own classes: packaged, served by a real TorchServe, and called."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
import torch

from benchmarks.classifiers.architectures import FILES
from benchmarks.classifiers.calibration import calibrated, photographs
from pipeline.artefact.architecture import module
from pipeline.artefact.model import read_model
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from tests.support.scripts import Script

pytestmark = [pytest.mark.usefixtures("one_worker"), pytest.mark.slow]

LABELS = ["beagle", "chihuahua", "collie", "pug", "saluki"]


def test_it_answers_with_its_own_labels_as_the_module_does(script: Script, checkout: Path, tmp_path: Path) -> None:
    shutil.copy(FILES / "own.py", tmp_path)
    lines = ("name: dogs", "architecture: own.py:build", "weights: dogs.pth", f"labels: [{', '.join(LABELS)}]")
    (tmp_path / "dogs.yaml").write_text("\n".join(lines))
    network = module("own.py:build", len(LABELS), 224, tmp_path)
    pictures = photographs(read_model(tmp_path / "dogs.yaml").preprocessing)
    torch.save(calibrated(network, len(LABELS), pictures)[0], tmp_path / "dogs.pth")
    expected = network(pictures).softmax(dim=1)

    served = tmp_path / "served"
    done = script("package", "dogs.yaml", "--output", served / "model-store" / "dogs.mar")
    assert done.returncode == 0, done.stderr
    assert "model    dogs: own.py:build with 5 classes\n" in done.stdout
    (served / "config").mkdir()
    shutil.copy(checkout / "config.properties", served / "config")
    with TorchServe(served, "dogs", Ports.any_free()) as serving, httpx.Client(trust_env=False, timeout=60) as http:
        for file, probabilities in zip(sorted((checkout / "docs" / "photographs").glob("*.jpg")), expected):
            answer = http.post(f"{serving.url}/v1/models/dogs:predict", content=file.read_bytes())
            (prediction,) = answer.json()["predictions"]
            classes = prediction["classes"]
            assert sorted(each["label"] for each in classes) == LABELS
            assert all(each["label"] == LABELS[each["index"]] for each in classes)
            for each in classes:  # bfloat16, and a different way to crop
                assert each["probability"] == pytest.approx(float(probabilities[each["index"]]), abs=0.1)
