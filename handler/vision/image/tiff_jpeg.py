"""The JPEGs in a TIFF, one per strip or tile. libtiff believes the TIFF's tags, whatever the JPEGs themselves say.

It fills missing pixels with grey, and mistakes one colour space for another.
"""

from __future__ import annotations

from collections.abc import Iterable

from vision.image.guards.jpeg import END_OF_IMAGE, HUFFMAN_FRAMES, START, START_OF_SCAN

MAX_SEGMENTS = 30  # before the scan, fill bytes included; libtiff writes six
LOOKED_AT = 32  # bytes of a segment; there may be many long ones in many JPEGs
BEHIND = 64  # bytes that may follow an end marker
JFIF, ADOBE = b"JFIF\0", b"Adobe"
APP0, APP14 = 0xE0, 0xEE
NONE, YCC, YCCK = 0, 1, 2  # the colour transform in Adobe's segment; NONE also means CMYK


class OtherColours(Exception):
    """A JPEG has a different colour space than its TIFF declares; programs disagree about which one counts."""


def check(file: bytes, jpegs: Iterable[tuple[int, int, int]], width: int, is_ycc: bool, by_colours: bool) -> None:
    """jpegs: the offset, the size and the minimum number of rows of each. width: the minimum, in pixels.

    is_ycc: whether the TIFF declares YCbCr. by_colours: whether a JPEG has several channels.
    Raises OtherColours, and ValueError if a JPEG is too small or lacks its end.
    """
    for offset, size, rows in set(jpegs):
        end = offset + size
        if file.rfind(bytes([0xFF, END_OF_IMAGE]), max(offset, end - BEHIND), end) < 0:
            raise ValueError("a JPEG without its end")
        segments = _segments(file, offset, end)
        frame = next((content for marker, content in segments if marker in HUFFMAN_FRAMES), b"")
        if len(frame) < 6 or int.from_bytes(frame[1:3], "big") < rows or int.from_bytes(frame[3:5], "big") < width:
            raise ValueError("a JPEG that is smaller than its strip or tile")
        if by_colours and not _has_colours(segments, frame[6::3], is_ycc):
            raise OtherColours


def _has_colours(segments: list[tuple[int, bytes]], channels: bytes, is_ycc: bool) -> bool:
    told = [content[11] for marker, content in segments if marker == APP14 and content[:5] == ADOBE and content[11:]]
    if YCCK in told:
        return False
    if is_ycc:
        return NONE not in told and channels != b"RGB"
    return YCC not in told and not any(marker == APP0 and content[:5] == JFIF for marker, content in segments)


def _segments(file: bytes, offset: int, end: int) -> list[tuple[int, bytes]]:
    """The segments before the first scan: the marker of each, and the start of its content."""
    found: list[tuple[int, bytes]] = []
    position = offset + len(START)
    for _ in range(MAX_SEGMENTS):
        marker = file[position + 1] if position + 4 <= end and file[position] == 0xFF else START_OF_SCAN
        if marker == START_OF_SCAN:
            break
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(file[position + 2 : position + 4], "big")
        found.append((marker, file[position + 4 : position + min(2 + length, LOOKED_AT)]))
        position += 2 + length
    return found
