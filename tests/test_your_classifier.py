"""docs/your-classifier.md can be followed: its files and commands, in order, from pictures to a service.

Two things differ from what a user has. Training begins with random weights, since the real ones cannot be
downloaded everywhere: a file in torch.hub's cache has their name. And the cluster is simulated.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from pipeline.artefact import zoo
from pipeline.artefact.architecture import module
from pipeline.artefact.labels import from_data, read_labels
from pipeline.artefact.model import KEYS, PREPROCESSING
from tests.support.api_server import ApiServer
from tests.support.cloud import Cloud
from tests.support.scripts import Start
from tests.support.waiting import PATIENCE_S

pytest_plugins = ["tests.support.api_server"]

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "docs" / "your-classifier.md").read_text()
USED = ("handler", "kserve", "models", "pipeline", "scripts", "docs/photographs")

# PyPI's torchvision, with the CPU build of torch, is imported through `zoo`.
BEFORE_TRAINING = """
import sys
if sys.orig_argv[-1].endswith("train.py"):
    import pipeline.artefact.zoo
"""


class Block(NamedTuple):
    """language: after the three backticks."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a block belongs to, from its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def checkout_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this checkout, with what training needs, and without archives."""
    for folder in USED:
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("config.properties", "NOTICE"):
        shutil.copy(CHECKOUT / file, tmp_path)
    (tmp_path / "model-store").mkdir()
    (tmp_path / "patterns").mkdir()
    (tmp_path / ".venv").symlink_to(CHECKOUT / ".venv")
    hub, site = tmp_path / "hub" / "hub" / "checkpoints", tmp_path / "site"
    for made in (hub, site):
        made.mkdir(parents=True)
    torch.manual_seed(0)
    begun = zoo.torchvision.models.resnet18(weights=None).state_dict()
    torch.save(begun, hub / Path(zoo.entry("resnet18").url).name)
    (site / "sitecustomize.py").write_text(BEFORE_TRAINING)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def run(checkout_of_a_user: Path) -> Callable[..., str]:
    """Runs commands in a shell, in that checkout. → stdout. A command that fails, fails the test."""

    def commands(script: str) -> str:
        path = os.pathsep.join([str(checkout_of_a_user / "site"), str(CHECKOUT)])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=checkout_of_a_user,
            env=os.environ
            | {"PYTHONPATH": path, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"},  # otherwise twice the work
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 5,
        )
        assert done.returncode == 0, done
        return done.stdout

    return commands


@pytest.mark.timeout(600)
def test_the_page_can_be_followed_from_top_to_bottom(
    checkout_of_a_user: Path, run: Callable[..., str], start: Start, port: int, cloud: Cloud, api: ApiServer
) -> None:
    for block in BLOCKS:
        if block.file:
            (checkout_of_a_user / block.file).write_text(block.text)
    train, package, serve, ask, deploy = (block.text for block in BLOCKS if block.language == "sh")

    trained = _said_by_training(run(train))
    assert {file: said for file, (said, _) in trained.items()} == {file: Path(file).parent.name for file in trained}
    assert len(trained) == 15

    packed = run(package)
    shown = next(block.text for block in BLOCKS if not block.language)
    heads = re.findall(r"^\w+  +", shown, re.MULTILINE)
    assert re.findall(r"^\w+  +", packed, re.MULTILINE)[: len(heads)] == heads
    assert re.findall(r"\w+ \d+ of \d+", packed)[:2] == re.findall(r"\w+ \d+ of \d+", shown)  # of the proof
    exact = [
        line
        for line in shown.splitlines()
        if line.startswith(("model", "weights", "classes", "images", "size", "work"))
    ]
    assert [line for line in exact if line not in packed] == []

    script, *arguments = serve.split()
    serving = start(Path(script).stem, *arguments, "--port", port, of=checkout_of_a_user)
    assert serving.stdout is not None
    assert "/v1/models/patterns:predict (Ctrl-C stops)" in serving.stdout.readline()
    here = f"http://127.0.0.1:{port}"
    predict, curl = ask.replace("http://127.0.0.1:8080", here).splitlines()
    assert re.search(r"dots.* \d+\.\d\d%", run(f"{predict} --url {here}"))
    answer = json.loads(run(curl))
    (expected,) = [json.loads(block.text) for block in BLOCKS if block.language == "json"]
    assert _without_probability(answer) == _without_probability(expected)
    served = _said_by_the_server(run(f"scripts/predict.sh --json --url {here} {' '.join(trained)}"))
    serving.send_signal(signal.SIGINT)
    _, said = serving.communicate(timeout=PATIENCE_S)
    assert serving.returncode == 0, said
    assert {file: label for file, (label, _) in served.items()} == {file: label for file, (label, _) in trained.items()}
    moved = [abs(served[file][1] - trained[file][1]) for file in trained]
    assert max(moved) <= 0.05  # the proof's limit for bfloat16; the page's own 0.01 is a typical value
    assert sum(moved) / len(moved) <= 0.01

    publish, deploy = deploy.replace("BUCKET", cloud.bucket).replace("IMAGE", "registry.example/server:1").splitlines()
    uri = run(publish).rstrip("\n")
    assert uri.startswith(f"gs://{cloud.bucket}/patterns/")
    api.models[uri] = "patterns"
    api.answers[uri] = 200, answer  # those of the model itself
    assert "service/patterns-predictor" in run(deploy.replace("VERSION", Path(uri).name))
    service = api.objects["inferenceservices", "patterns"]
    assert service["spec"]["predictor"]["model"]["storageUri"] == uri


def _said_by_training(text: str) -> dict[str, tuple[str, float]]:
    """Pictures not used in training → label and probability."""
    lines = re.findall(r"^(\S+\.jpg): (\w+) ([\d.]+)%$", text, re.MULTILINE)
    return {file: (label, float(percent) / 100) for file, label, percent in lines}


def _said_by_the_server(text: str) -> dict[str, tuple[str, float]]:
    answers = [json.loads(line) for line in text.splitlines()]
    return {each["image"]: (each["classes"][0]["label"], each["classes"][0]["probability"]) for each in answers}


def _without_probability(answer: dict[str, list[dict[str, list[dict[str, object]]]]]) -> list[dict[str, object]]:
    (prediction,) = answer["predictions"]
    return [{key: value for key, value in each.items() if key != "probability"} for each in prediction["classes"]]


# --- What else the page says ------------------------------------------------------------------------------------------


def _rows(head: str) -> list[list[str]]:
    """The rows of the table whose first column has this name."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| ")]


def test_the_network_of_its_own_is_taken(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.file == "models/nets.py"]
    (tmp_path / "nets.py").write_text(block.text)
    assert "`architecture: nets.py:small`" in PAGE
    module("nets.py:small", 3, 64, tmp_path)


def test_every_key_is_there() -> None:
    assert [row[0].strip("| `") for row in _rows("key")] == list(KEYS)
    about_images = next(row[1] for row in _rows("key") if "preprocessing" in row[0])
    assert [key for key in PREPROCESSING if f"`{key}`" not in about_images] == []


@pytest.mark.parametrize("row", _rows("labels"), ids=lambda row: row[0].strip("| "))
def test_labels_are_read_in_each_form(row: list[str], tmp_path: Path) -> None:
    form, example = row[0].strip("| "), row[1].strip("| `").replace(" ⏎ ", "\n")
    if "model file" in form or form.startswith("with WordNet"):
        classes = from_data(yaml.safe_load(example), "labels")
    else:
        kind = ".json" if form.startswith("JSON") else ".csv" if form.startswith("CSV") else ".txt"
        (tmp_path / f"labels{kind}").write_text(example)
        classes = read_labels(tmp_path / f"labels{kind}")
    with_ids = [("n02123045", "tabby"), ("n02123159", "tiger cat")]
    assert classes in (
        with_ids,
        [(None, "checks"), (None, "dots")],
        [(None, "checks"), (None, "dots"), (None, "stripes")],
    )


@pytest.mark.parametrize("row", _rows("what it says"), ids=lambda row: row[0].strip("| "))
def test_the_sentences_that_it_explains_are_said(row: list[str]) -> None:
    places = [*(CHECKOUT / "pipeline").rglob("*.py"), *(CHECKOUT / "handler").rglob("*.py")]
    source = "\n".join(file.read_text() for file in places)
    for sentence in re.findall(r"`([^`]+)`", row[0]):
        for part in re.split(r"'fft_fft2'|: (?=it )|…", sentence):
            assert part.strip() in source
