"""JPEG: segments and scans are counted; EXIF, XMP and additional pictures are left out."""

from __future__ import annotations

import re

from vision.errors import DamagedImage, NotAnImage, TooLarge, Unsupported
from vision.image.guards import exif
from vision.image.guards.bounds import MAX_JUNK
from vision.image.guards.stripped import Stripped

START = b"\xff\xd8"
MAX_SEGMENTS = 2_000  # before the first scan, and again after it; 10 MiB in 64 KiB segments are 160

# Markers: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1.
NEXT_MARKER = re.compile(rb"\xff([^\xff])")
MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # in a scan, FF that is not a marker is followed by 00
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
RESTARTS = range(0xD0, 0xD8)
WITH_LENGTH = {*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE} - {0xC8}
TO_BASELINE = "save it as a baseline or progressive JPEG"
MULTI_PICTURE = b"MPF\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"

PROGRESSIVE = 0xC2
HUFFMAN_FRAMES = (0xC0, 0xC1, PROGRESSIVE)  # baseline, extended
OTHER_FRAMES = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA, 0xCD, 0xCE), "an arithmetic-coded JPEG"),
    0xF7: "JPEG-LS",
}


def stripped(image: bytes, place: str) -> Stripped:
    """Before the first scan, only parts that libjpeg knows are accepted: at others libjpeg stops, but Pillow goes on.

    Raises NotAnImage, DamagedImage, Unsupported, TooLarge.
    """
    kept: list[bytes] = []
    found_exif: list[bytes] = []
    xmp = b""
    position, kept_from, junk = 2, 0, 0
    for _ in range(MAX_SEGMENTS):
        found = NEXT_MARKER.search(image, position)
        if not found:
            break
        marker, start = found[1][0], found.end()
        junk += start - 2 - position
        if junk > MAX_JUNK:
            raise TooLarge(place, MAX_JUNK, "bytes between segments")
        position = start
        if marker == 0 or marker in RESTARTS:
            continue
        if marker in OTHER_FRAMES:
            raise Unsupported(place, OTHER_FRAMES[marker], TO_BASELINE)
        length = int.from_bytes(image[start : start + 2], "big")
        if marker in HUFFMAN_FRAMES and image[start + 2 : start + 3] not in (b"", b"\x08"):
            raise Unsupported(place, "a JPEG that does not have 8 bits per channel", TO_BASELINE)
        if marker not in WITH_LENGTH or length < 2:
            raise NotAnImage(place)
        if start + length > len(image):
            break
        if marker == START_OF_SCAN:
            kept.append(image[kept_from:])
            scans, end = _count_scans(image, start - 2, place)
            file = b"".join(kept)
            end -= len(image) - len(file)
            return Stripped(file, b"".join(found_exif), xmp, scans, "JPEG", end)
        position += length
        is_exif, is_xmp = (image.startswith(name, start + 2) for name in (exif.START, XMP))
        if is_exif or is_xmp or image.startswith(MULTI_PICTURE, start + 2):
            kept.append(image[kept_from : found.start()])
            kept_from = position
            if is_exif:
                found_exif.append(image[start + 2 + len(exif.START) : position])
            elif is_xmp:
                xmp = image[start + 2 + len(XMP) : position]
    else:
        raise TooLarge(place, MAX_SEGMENTS, "segments")
    if position > 2:  # it begins like a JPEG
        raise DamagedImage(place, "JPEG")
    raise NotAnImage(place)


def _count_scans(jpeg: bytes, start: int, place: str) -> tuple[int, int]:
    """How many scans a decoder may find from `start` on, and where the data of the last one ends. Whatever follows the
    end of the image does not count.

    A decoder that is lost in a scan looks for a marker anywhere; otherwise it skips segments. So a scan counts wherever
    it begins, and the end of the image counts only outside everything that could be a segment.
    """
    scans, opaque_until, data_from, end = 0, start, start, len(jpeg)
    for number, found in enumerate(MARKER_IN_SCAN.finditer(jpeg, start)):
        if number >= MAX_SEGMENTS:
            raise TooLarge(place, MAX_SEGMENTS, "segments")
        marker, position = found[1][0], found.end()
        length = int.from_bytes(jpeg[position : position + 2], "big") if marker in WITH_LENGTH else 0
        if marker == START_OF_SCAN:
            scans, data_from, end = scans + 1, position + length, len(jpeg)
        elif found.start() >= data_from:
            end = min(end, found.start())
        if marker == END_OF_IMAGE and found.start() >= opaque_until:
            break
        opaque_until = max(opaque_until, position + length)
    return scans, end
