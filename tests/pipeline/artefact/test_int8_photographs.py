"""Which files are photographs, and what each is used for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artefact.contents import write_facts
from pipeline.artefact.int8 import photographs as module
from pipeline.artefact.int8.photographs import Photographs, photographs
from pipeline.artefact.model import MODEL
from pipeline.artefact.program import Program
from pipeline.artefact.proof import ask_packed
from pipeline.shared.errors import PipelineError
from tests.support.int8_pictures import write_pictures

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", 20)


@pytest.fixture
def look(checkout: Path, tmp_path: Path) -> module.Ask:
    """The handler, as packaging runs it before there is a network."""
    facts = tmp_path / "facts"
    facts.mkdir()
    write_facts(MODEL, bfloat16=True, folder=facts)

    def ask(pictures: Sequence[Path], precisions: Sequence[str]) -> dict[str, np.ndarray]:
        return ask_packed(Program(b"", {}), facts, checkout / "handler", pictures, precisions)

    return ask


def digests(found: Photographs) -> list[str]:
    return [each.sha256 for each in found.proof]


def test_half_are_for_the_ranges_and_the_others_for_the_proof(folder: Path, look: module.Ask) -> None:
    found = photographs(folder, look)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape == (10, 224, 224, 3)
    assert len(found.proof) == len(set(digests(found))) == 10
    assert found.passed_over == ()


def test_names_places_and_copies_change_nothing(folder: Path, look: module.Ask, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "deeper").mkdir(parents=True)
    for index, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(file, other / ("deeper" if index % 2 else "") / f"{index:02} of mine{file.suffix}")
    shutil.copy(file, other / "once more.jpg")
    one, two = photographs(folder, look), photographs(other, look)
    assert digests(one) == digests(two)
    assert np.array_equal(one.pixels, two.pixels)


def test_what_is_no_image_is_passed_over_and_named(
    folder: Path, look: module.Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "README.md").write_text("# Pictures\n")
    (folder / "half.jpg").write_bytes((folder / "00.png").read_bytes()[:300])
    (folder / ".hidden").write_text("of a program")
    Image.new("RGB", (300, 300)).save(folder / "large.bmp")
    (folder / "two\nlines.txt").write_text("of no use")
    monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    found = photographs(folder, look)
    assert [file.name for file in found.passed_over] == ["README.md", "half.jpg", "large.bmp", "two\nlines.txt"]
    assert len(found.proof) == 10


def test_no_more_are_taken_than_are_needed(folder: Path, look: module.Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 8)
    monkeypatch.setattr(module, "MOST_FOR_RANGES", 4)
    monkeypatch.setattr(module, "MOST_FOR_PROOF", 7)
    monkeypatch.setattr(module, "TOGETHER", 6)
    found = photographs(folder, look)
    assert (len(found.pixels), len(found.proof)) == (4, 7)


def test_too_few_are_told_with_what_they_lack(folder: Path, look: module.Ask) -> None:
    (folder / "00.png").write_text("no picture any more")
    with pytest.raises(PipelineError) as refused:
        photographs(folder, look)
    others = "1 files, such as 00.png, are not photographs"
    assert str(refused.value) == f"{folder} has 19 different photographs ({others}): --int8 needs at least 20"


def test_an_empty_folder_and_none_are_told(look: module.Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match=r"/empty has 0 different photographs: --int8 needs at least 20$"):
        photographs(tmp_path / "empty", look)
    for place in (tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(
            PipelineError, match=f"{place} is not a folder: give --int8 one with at least 20 photographs"
        ):
            photographs(place, look)
