"""A model with any number of classes, from its files to its answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from entry import Handler
from pipeline.artefact.archive import manifest
from pipeline.artefact.contents import write_contents, write_facts
from pipeline.artefact.model import MODEL, Preprocessing
from pipeline.artefact.program import export
from reliability.pictures import base64_text, encoded, gradient
from tests.handler.conftest import Worker, worker_context

CROP = 32
LABELS = ["猫", "a dog", '"quoted"', "🐈‍⬛", "e\u0301"]


def network(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes)).eval()


def worker(classes: list[tuple[str | None, str]], outputs: int, folder: Path, checkout: Path) -> Worker:
    """Raises ValueError, like a handler that does not load."""
    shown = Preprocessing(CROP, CROP, "bicubic", [0.5] * 3, [0.5] * 3)
    model = replace(MODEL, name="pets", architecture="pets.py:network", classes=classes, preprocessing=shown)
    write_contents(export(network(outputs), CROP), "untrained", model, folder)
    write_facts(model, bfloat16=True, folder=folder)
    config = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_bytes(manifest("pets", "0123456789ab"))
    handler = Handler()
    handler.initialize(worker_context(folder, config))
    return Worker(handler, folder, config)


def ask(worker: Worker, instances: int = 1, **parameters: Any) -> tuple[int, Any]:
    image = {"b64": base64_text(encoded(gradient(40, 50)))}
    body = json.dumps({"instances": [image] * instances, "parameters": parameters}).encode()
    ((status, _, answer),) = worker.predict(("application/json", body))
    said = json.loads(answer)
    return status, said.get("error") or [prediction["classes"] for prediction in said["predictions"]]


@pytest.mark.parametrize("count", [1, 2, 5, 21_841])
def test_each_answers_with_as_many_as_it_has(count: int, tmp_path: Path, checkout: Path) -> None:
    pets = worker([(None, f"label {index}") for index in range(count)], count, tmp_path, checkout)
    for asked in (1, 4, 1000):
        status, (classes,) = ask(pets, top_k=asked)
        assert (status, len(classes)) == (200, min(asked, count))
        assert all(found.keys() == {"index", "label", "probability"} for found in classes)
        assert [found["label"] for found in classes] == [f"label {found['index']}" for found in classes]
    assert len(ask(pets)[1][0]) == min(5, count)
    assert ask(pets, top_k=1001) == (400, "parameters.top_k: expected an integer from 1 to 1000")


def test_what_is_answered_counts(tmp_path: Path, checkout: Path) -> None:
    """64 times 1000 classes would be too many; 64 times 5 are not."""
    pets = worker([(None, label) for label in LABELS], 5, tmp_path, checkout)
    status, answered = ask(pets, instances=64, top_k=1000)
    assert (status, len(answered)) == (200, 64)
    for classes in answered:
        assert sorted(found["label"] for found in classes) == sorted(LABELS)
        assert sum(found["probability"] for found in classes) == pytest.approx(1, abs=1e-4)


def test_a_batch_of_the_largest_answers_fits_into_a_response(tmp_path: Path, checkout: Path) -> None:
    """The longest possible labels: 3000 bytes each."""
    pets = worker([("n02123045", "🐈" * 250)] * 1000, 1000, tmp_path, checkout)
    properties = (checkout / "config.properties").read_text()
    most = int(properties.partition("max_response_size=")[2].split()[0])
    for instances, allowed in ((1, 338), (64, 5)):
        image = {"b64": base64_text(encoded(gradient(4, 5)))}
        for asked, expected in ((allowed, 200), (allowed + 1, 413)):
            body = json.dumps({"instances": [image] * instances, "parameters": {"top_k": asked}}).encode()
            ((status, _, answer),) = pets.predict(("application/json", body))
            assert status == expected, answer
            assert len(answer) * 16 < most


@pytest.mark.parametrize("labels", [4, 6])
def test_as_many_labels_as_outputs(labels: int, tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(ValueError, match=rf"^classes\.json has {labels} classes, the network has 5$"):
        worker([(None, "a")] * labels, 5, tmp_path, checkout)


def test_some_may_have_a_wordnet_id_and_others_not(tmp_path: Path, checkout: Path) -> None:
    pets = worker([("n02123045", "tabby"), (None, "my own cat")], 2, tmp_path, checkout)
    classes = {found["label"]: found.get("wnid", "none") for found in ask(pets)[1][0]}
    assert classes == {"tabby": "n02123045", "my own cat": "none"}
