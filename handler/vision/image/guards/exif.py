"""EXIF, of which only the orientation is read: a small TIFF behind a name."""

from __future__ import annotations

from vision.image.guards.tiff_directory import ORIENTATION, entries, is_cut

START = b"Exif\0\0"


def orientation(exif: bytes) -> int | None:
    """What EXIF says of the orientation, 1 to 8 where it is sound; None where it says nothing."""
    found = None
    for entry in entries(_directory_of(exif)):
        if entry.tag == ORIENTATION and entry.value is not None:
            found = entry.value
    return found


def lacks_entries(exif: bytes) -> bool:
    """Whether it breaks off before all is known that it says of the picture."""
    return is_cut(_directory_of(exif))


def _directory_of(exif: bytes) -> bytes:
    start = 0
    while exif.startswith(START, start):  # as Pillow takes it, as often as it comes
        start += len(START)
    return exif[start:]
