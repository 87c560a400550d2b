"""The front door's list of clients that have left is read as it grows, and takes little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision.worker.abandoned import REMEMBERED, Abandoned


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABANDONED_REQUESTS", str(tmp_path / "abandoned"))
    return tmp_path / "abandoned"


def of(abandoned: Abandoned, *keys: object) -> list[object]:
    abandoned.look()
    return [key for key in keys if key in abandoned]


def test_lines_are_read_as_they_come(file: Path) -> None:
    abandoned = Abandoned()
    assert of(abandoned, "a", None) == []  # there is no file yet
    with open(file, "w") as lines:
        for said, known in (("a\nb", ["a"]), ("", ["a"]), ("c\n", ["a", "bc"]), ("d\n", ["a", "bc", "d"])):
            lines.write(said)
            lines.flush()
            assert of(abandoned, "a", "b", "bc", "c", "d") == known


@pytest.mark.parametrize("longer", ["", "the\nlines\nof\nbefore\n"])
def test_a_file_that_begins_anew_is_read_anew(longer: str, file: Path) -> None:
    file.write_text(longer + "old\n")
    abandoned = Abandoned()
    assert of(abandoned, "old", "new") == ["old"]
    file.write_text("")
    assert of(abandoned, "old") == ["old"]
    file.write_text("new\n")
    assert of(abandoned, "old", "new") == ["old", "new"]


def test_as_many_are_remembered_as_may_wait_and_no_more(file: Path) -> None:
    abandoned = Abandoned()
    file.write_text("".join(f"{number}\n" for number in range(REMEMBERED + 10)))
    assert of(abandoned, "9", "10", str(REMEMBERED + 9)) == ["10", str(REMEMBERED + 9)]


def test_without_that_server_nobody_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABANDONED_REQUESTS", raising=False)
    assert of(Abandoned(), "a", "", None) == []
