"""EXIF, of which only the orientation is read: a small TIFF behind a name."""

from __future__ import annotations

from vision.image.guards.tiff_directory import ORIENTATION, entries

START = b"Exif\0\0"


def orientation(exif: bytes) -> int | None:
    """What EXIF says of the orientation, 1 to 8 where it is sound; None where it says nothing."""
    start = 0
    while exif.startswith(START, start):  # as Pillow takes it, as often as it comes
        start += len(START)
    found = None
    for entry in entries(exif[start:]):
        if entry.tag == ORIENTATION and entry.value is not None:
            found = entry.value
    return found
