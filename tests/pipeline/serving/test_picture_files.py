"""Which files are pictures to compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.serving.comparing import Picture
from pipeline.serving.picture_files import picture_files, read
from pipeline.shared.errors import NoPictures, NotClassified


def test_a_folder_stands_for_its_pictures_and_those_of_its_folders(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "x.jpg").mkdir()
    for name in ("b.JPG", "a.tiff", "more/c.webp", "README.md", ".hidden.png"):
        (tmp_path / name).write_bytes(name.encode())
    files = picture_files([str(tmp_path)])
    assert files == [str(tmp_path / name) for name in ("a.tiff", "b.JPG", "more/c.webp")]
    assert next(read(files)) == Picture(files[0], b"a.tiff")


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "picture").touch()
    assert picture_files([str(tmp_path / "picture")]) == [str(tmp_path / "picture")]


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoPictures, match=f"no pictures in {tmp_path}: expected .jpg"):
        picture_files([str(tmp_path)])


def test_a_file_that_cannot_be_opened_is_told_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(NotClassified, match=r"gone\.jpg: No such file or directory"):
        picture_files([str(tmp_path / "gone.jpg")])
