"""JPEG: its segments and scans are counted; EXIF and further pictures are left out."""

from __future__ import annotations

import re

from vision.errors import NotAnImage, TooLarge
from vision.image.guards import exif
from vision.image.guards.bounds import MAX_JUNK
from vision.image.guards.stripped import Stripped

START = b"\xff\xd8"
MAX_SEGMENTS = 2_000  # before the first scan, and after it; 10 MiB of 64 KiB segments are 160

# The markers, as https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1, has them.
NEXT_MARKER = re.compile(rb"\xff([^\xff])")
MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # what is no marker there is followed by 00
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
RESTARTS = range(0xD0, 0xD8)
WITH_LENGTH = {*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE} - {0xC8}
MULTI_PICTURE = b"MPF\0"


def stripped(image: bytes, place: str) -> Stripped:
    """Up to the first scan every part has to be one that libjpeg knows: at others it ends, and Pillow goes on."""
    kept: list[bytes] = []
    found_exif: list[bytes] = []
    position, kept_from, junk = 2, 0, 0
    for _ in range(MAX_SEGMENTS):
        found = NEXT_MARKER.search(image, position)
        if not found:
            raise NotAnImage(place)
        marker, start = found[1][0], found.end()
        junk += start - 2 - position
        if junk > MAX_JUNK:
            raise TooLarge(place, MAX_JUNK, "bytes between segments")
        position = start
        if marker == 0 or marker in RESTARTS:
            continue
        length = int.from_bytes(image[start : start + 2], "big")
        if marker not in WITH_LENGTH or length < 2 or start + length > len(image):
            raise NotAnImage(place)
        if marker == START_OF_SCAN:
            kept.append(image[kept_from:])
            return Stripped(b"".join(kept), b"".join(found_exif), _count_scans(image, start - 2, place))
        position += length
        is_exif = image.startswith(exif.START, start + 2)
        if is_exif or image.startswith(MULTI_PICTURE, start + 2):
            kept.append(image[kept_from : found.start()])
            kept_from = position
            if is_exif:
                found_exif.append(image[start + 2 + len(exif.START) : position])
    raise TooLarge(place, MAX_SEGMENTS, "segments")


def _count_scans(jpeg: bytes, start: int, place: str) -> int:
    """How many scans a decoder may find from `start` on; what follows the end of the image does not count.

    A decoder that has lost its way in a scan looks for a marker anywhere; one that has not, skips segments. So a scan
    counts wherever it begins, and the end counts only outside of everything that could be a segment.
    """
    scans, opaque_until = 0, start
    for number, found in enumerate(MARKER_IN_SCAN.finditer(jpeg, start)):
        if number >= MAX_SEGMENTS:
            raise TooLarge(place, MAX_SEGMENTS, "segments")
        marker, position = found[1][0], found.end()
        scans += marker == START_OF_SCAN
        if marker == END_OF_IMAGE and found.start() >= opaque_until:
            break
        if marker in WITH_LENGTH:
            opaque_until = max(opaque_until, position + int.from_bytes(jpeg[position : position + 2], "big"))
    return scans
