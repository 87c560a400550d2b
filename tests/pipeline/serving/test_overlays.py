"""The names of files with explanations."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.serving.overlays import Overlays


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("photo.jpg", "photo"),
        ("some/where/photo.png", "photo"),
        ("photo@2x.final.jpg", "photo_2x.final"),
        ("https://user:secret@example.org/a/cat.webp?token=secret#x", "cat"),  # pragma: allowlist secret
        ("https://example.org/", "picture"),
        ("gs://bucket/folder/dog.JPG", "dog"),
        ("..", "picture"),
        ("../../.bashrc", "bashrc"),
        ("a b\n\x1b[31m.jpg", "a_b_31m"),
        ("Käse und Brot.jpg", "Käse_und_Brot"),
        ("\udcff.jpg", "picture"),
        ("猫" * 200 + ".jpg", "猫" * 50),
    ],
)
def test_a_name_tells_whose_it_is_and_stays_in_the_folder(image: str, name: str, tmp_path: Path) -> None:
    kept = Overlays(tmp_path / "made" / "here").keep(image, b"jpeg")
    assert kept == tmp_path / "made" / "here" / f"{name}.explained.jpg"
    assert kept.read_bytes() == b"jpeg"
    assert os.listdir(kept.parent) == [kept.name]


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.explained.jpg").symlink_to("nowhere")
    overlays = Overlays(tmp_path)
    names = [overlays.keep(image, image.encode()).name for image in ("x/a.jpg", "y/a.png", "b.jpg")]
    names.append(Overlays(tmp_path).keep("b.jpg", b"later").name)
    assert names == ["a.explained-2.jpg", "a.explained-3.jpg", "b.explained.jpg", "b.explained-2.jpg"]
    assert (tmp_path / "b.explained.jpg").read_bytes() == b"b.jpg"
    assert os.readlink(tmp_path / "a.explained.jpg") == "nowhere"


def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    kept = Overlays(tmp_path).keep("a.jpg", b"jpeg")
    assert stat.S_IMODE(kept.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_folder_that_is_none_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="Not a directory"):
        Overlays(tmp_path / "file")
