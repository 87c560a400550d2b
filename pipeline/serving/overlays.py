"""Writes the pictures of explanations into a folder, each under a name that shows which image it explains."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.serving.pictures import scheme_of
from pipeline.shared.errors import naming
from pipeline.shared.whole import beside, written_whole

LONGEST_NAME = 50  # characters of a picture's own name: at four bytes each, they fit into a file system's 255
STRANGE = re.compile(r"[^\w.-]+")  # replaced in names: separators, blanks, control characters
FIRST_NUMBER = 2  # for the second picture with the same name


class Overlays:
    """Files in a folder, which is created. Raises OSError if that fails, or nothing can be written into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        with naming(folder):
            tried = beside(folder / "tried")
            tried.touch(exist_ok=False)
            tried.unlink()

    def keep(self, image: str, jpeg: bytes) -> Path:
        """Writes the file for an image, as the user names it, and returns its path. Never changes an existing file."""
        target = next(each for each in self._names(image) if not os.path.lexists(each))
        with naming(target), written_whole(target) as file:
            file.write(jpeg)
        return target

    def _names(self, image: str) -> Iterator[Path]:
        """photo.explained.jpg, photo.explained-2.jpg, …"""
        path = image if scheme_of(image) is None else urlsplit(image).path
        stem = STRANGE.sub("_", Path(path).stem).strip("._")[:LONGEST_NAME] or "picture"
        yield self._folder / f"{stem}.explained.jpg"
        number = FIRST_NUMBER
        while True:
            yield self._folder / f"{stem}.explained-{number}.jpg"
            number += 1
