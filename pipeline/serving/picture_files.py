"""Pictures to compare with: files, and the files in folders."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.serving.comparing import Picture
from pipeline.serving.pictures import read_file
from pipeline.shared.errors import NoPictures, NotClassified

# The formats that the model accepts.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def picture_files(places: Iterable[str]) -> list[str]:
    """Files are kept as given. A folder gives every file in it, at any depth, with a picture's ending, in order.

    Raises NoPictures for a folder without pictures, NotClassified for a file that cannot be opened.
    """
    files: list[str] = []
    for place in places:
        if os.path.isdir(place):
            found = sorted(file for file in Path(place).rglob("*") if is_picture(file.name) and file.is_file())
            if not found:
                raise NoPictures(place)
            files += map(str, found)
        else:
            files.append(place)
    for file in files:  # before minutes are spent on the others
        try:
            open(file, "rb").close()
        except (OSError, ValueError) as error:
            raise NotClassified(file, os.strerror(getattr(error, "errno", None) or errno.EINVAL)) from None
    return files


def is_picture(name: str) -> bool:
    """Decides by the name of a file or an object. Hidden files belong to programs."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def read(files: Iterable[str]) -> Iterator[Picture]:
    """Reads one file after the other. Raises NotClassified."""
    for file in files:
        yield Picture(file, read_file(file))
