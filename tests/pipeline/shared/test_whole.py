"""A file is either complete or absent, and no other file is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.shared import whole
from pipeline.shared.whole import beside, written_whole


def test_it_is_there_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    with written_whole(target) as file:
        file.write(b"after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    with pytest.raises(TypeError), written_whole(target) as file:
        file.writelines([b"after", None])  # type: ignore[list-item]
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "a").symlink_to("other")
    with written_whole(tmp_path / "a") as file:
        file.write(b"after")
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "a").is_symlink()


def test_a_link_in_the_place_of_its_part_is_neither_followed_nor_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If somebody had guessed its name."""
    guessed = tmp_path / "guessed"
    guessed.symlink_to("other")
    monkeypatch.setattr(whole, "beside", lambda _: guessed)
    with pytest.raises(FileExistsError), written_whole(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["guessed"]


def test_names_are_hidden_and_no_two_are_the_same(tmp_path: Path) -> None:
    names = {beside(tmp_path / "a").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".a.") for name in names)
