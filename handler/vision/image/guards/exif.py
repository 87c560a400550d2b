"""EXIF is a small TIFF after a name. Only its orientation is read."""

from __future__ import annotations

from vision.image.guards.tiff_directory import ORIENTATION, entries, is_cut

START = b"Exif\0\0"


def orientation(exif: bytes) -> int | None:
    """The orientation in EXIF, 1 to 8 if it is valid; None if EXIF has none."""
    found = None
    for entry in entries(_directory_of(exif)):
        if entry.tag == ORIENTATION and entry.value is not None:
            found = entry.value
    return found


def lacks_entries(exif: bytes) -> bool:
    """Whether EXIF is cut off before the end of its directory."""
    return is_cut(_directory_of(exif))


def _directory_of(exif: bytes) -> bytes:
    start = 0
    while exif.startswith(START, start):  # any number of times, as in Pillow
        start += len(START)
    return exif[start:]
