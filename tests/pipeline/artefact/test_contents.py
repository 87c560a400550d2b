"""An archive's files other than the handler: the same bytes each time, with metadata."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml

from pipeline.artefact.contents import (
    CLASSES_FILE,
    MODEL_FILE,
    PROGRAM_FILE,
    WEIGHTS_FILE,
    architecture_in,
    read_metadata,
    write_contents,
    write_facts,
    write_weights,
)
from pipeline.artefact.model import MODEL, Preprocessing
from pipeline.artefact.program import Program
from vision.model.facts import read_facts
from vision.model.ranking import read_classes

TENSORS: dict[str, np.ndarray] = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.int64)}
PETS = replace(
    MODEL,
    name="pets",
    architecture="net.py:build",
    classes=[("n02123045", "tabby"), (None, "a “dog”\u2028"), (None, "ü")],
    preprocessing=Preprocessing(232, 200, "bicubic", [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]),
)


def weights_file(folder: Path, tensors: dict[str, np.ndarray], origin: str = "tiny") -> bytes:
    write_weights(tensors, origin, folder / WEIGHTS_FILE)
    return (folder / WEIGHTS_FILE).read_bytes()


# --- Weights ----------------------------------------------------------------------------------------------------------

SERIALIZE = """
import sys, numpy
from pathlib import Path
from pipeline.artefact.contents import write_weights
file, *names = sys.argv[1:]
tensors = {name: numpy.full((2, 3), number, numpy.float32) for number, name in enumerate(names)}
found = set()
for _ in range(20):
    write_weights(tensors, "tiny", Path(file))
    found.add(Path(file).read_bytes())
assert len(found) == 1, "they differ within one process"
sys.stdout.buffer.write(found.pop())
"""


def test_equal_weights_give_equal_bytes_in_every_process(importable: dict[str, str], tmp_path: Path) -> None:
    """safetensors orders its metadata differently each time."""

    def serialize(hash_seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-P", "-c", SERIALIZE, str(tmp_path / WEIGHTS_FILE), "b", "c", "a"],
            env=importable | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

    assert serialize("1") == serialize("2")


def test_the_order_of_the_names_does_not_matter(tmp_path: Path) -> None:
    assert weights_file(tmp_path, TENSORS) == weights_file(tmp_path, dict(reversed(TENSORS.items())))


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    read = safetensors.numpy.load(weights_file(tmp_path, TENSORS))
    assert read.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_the_metadata_says_where_the_weights_come_from_and_what_they_are(tmp_path: Path) -> None:
    def said(tensors: dict[str, np.ndarray], origin: str) -> dict[str, str]:
        return read_metadata(BytesIO(weights_file(tmp_path, tensors, origin)))

    mine = said(TENSORS, "mine.pth")
    assert mine.keys() == {"weights", "sha256"}
    assert mine["weights"] == "mine.pth"
    assert len(bytes.fromhex(mine["sha256"])) == 32
    assert said(dict(reversed(TENSORS.items())), "yours.pth")["sha256"] == mine["sha256"]
    assert said(TENSORS | {"a": np.zeros(2, np.int64)}, "mine.pth")["sha256"] != mine["sha256"]


@pytest.mark.parametrize("name", ['quo"ted.pth', "back\\slash.pth", "Gewichte – ü.pth", "tab\t.pth", "del\x7f.pth"])
def test_a_file_name_with_odd_characters_survives(tmp_path: Path, name: str) -> None:
    file = weights_file(tmp_path, TENSORS, name)
    assert read_metadata(BytesIO(file))["weights"] == name
    assert safetensors.numpy.load(file).keys() == TENSORS.keys()


# --- The others, as the handler reads them ----------------------------------------------------------------------------


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_contents(Program(b"{}\n", TENSORS), "file a.pth", PETS, tmp_path / name)
        write_facts(PETS, bfloat16=True, folder=tmp_path / name)
        found.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    assert found[0].keys() == {PROGRAM_FILE, WEIGHTS_FILE, CLASSES_FILE, MODEL_FILE}
    assert found[0][PROGRAM_FILE] == b"{}\n"


def test_classes_are_read_as_they_were(tmp_path: Path) -> None:
    write_contents(Program(b"{}\n", TENSORS), "file a.pth", PETS, tmp_path)
    assert read_classes(tmp_path / CLASSES_FILE) == PETS.classes
    assert json.loads((tmp_path / CLASSES_FILE).read_bytes())[1] == [None, "a “dog”\u2028"]


@pytest.mark.parametrize("bfloat16", [True, False])
def test_facts_are_read_as_they_were(tmp_path: Path, bfloat16: bool) -> None:
    write_facts(PETS, bfloat16, tmp_path)
    facts = read_facts(tmp_path / MODEL_FILE)
    assert (facts.name, facts.classes, facts.bfloat16) == ("pets", CLASSES_FILE, bfloat16)
    assert vars(facts.preprocessing) == vars(PETS.preprocessing)
    assert yaml.safe_load((tmp_path / MODEL_FILE).read_bytes())["architecture"] == "net.py:build"


def test_the_architecture_is_read_back_without_the_folders_of_this_machine(tmp_path: Path) -> None:
    write_facts(replace(PETS, architecture="/home/me/nets/net.py:build"), True, tmp_path)
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        archive.write(tmp_path / MODEL_FILE, MODEL_FILE)
    assert architecture_in(tmp_path / "a.mar") == "net.py:build"
    with zipfile.ZipFile(tmp_path / "b.mar", "w") as archive:
        archive.writestr(MODEL_FILE, "name: alexnet")  # as archives were before
    for other in ("b.mar", "none.mar", MODEL_FILE):
        assert architecture_in(tmp_path / other) is None
