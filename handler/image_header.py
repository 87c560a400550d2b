"""What an image file asks for, told from its own bytes before a decoder sees them.

Pillow reads all that comes before the pixels when it opens a file: it follows every segment, chunk and tag, and copies
what each tag points at. A few bytes can so ask for gigabytes, or for seconds. The bounds here are far above what
programs write.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from errors import TooLarge, Unsupported

MAX_SEGMENTS = 2_000  # of a JPEG before its first scan; 10 MiB of 64 KiB segments are 160
MAX_CHUNKS = 20_000  # of a PNG, but for IDAT; each frame of an animation has two or more
MAX_COMPRESSED_CHUNKS = 100  # of a PNG: profiles and texts, each of which may unpack to a megabyte
MAX_STRIPS = 100_000  # of a TIFF; some have one for each row
MAX_METADATA = 16 << 20  # bytes that a directory's tags point at: a file of 10 MiB has less, unless they share them

# A JPEG's markers; \xff before \x00 or a restart (d0 to d7) is part of a scan, and before \xff it is padding.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
START_OF_SCAN, END_OF_IMAGE, WITHOUT_LENGTH = b"\xda", b"\xd9", (b"\x01", b"\xd8")
EXIF, MULTI_PICTURE = b"Exif\0\0", b"MPF\0"

PNG = b"\x89PNG\r\n\x1a\n"
COMPRESSED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt")

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")  # as Pillow takes them
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes of each type
COMPRESSION, STRIP_OFFSETS, TILE_OFFSETS = 259, 273, 324  # tags
# None, LZW, JPEG, deflate by both its numbers, PackBits. Fax codes go on after an error, with a line in the log for
# each row: 300 KB could write 600 MB.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)


def check_header(image: bytes, place: str, max_pixels: int) -> None:
    """Raises RequestError where a decoder would take long, or much memory: TooLarge (413) or Unsupported (400)."""
    if image.startswith(b"\xff\xd8"):
        _check_jpeg(image, place)
    elif image.startswith(PNG):
        _check_png(image, place)
    elif image.startswith(TIFF_STARTS):
        _check_tiff(image, place)
    elif image[8:16] == b"WEBPVP8X" and len(image) >= 30:
        width, height = (int.from_bytes(image[at : at + 3], "little") + 1 for at in (24, 27))
        if width * height > max_pixels:
            raise TooLarge(place, max_pixels, "pixels")


def count_scans(jpeg: bytes) -> int:
    """How many scans a JPEG has. What follows the end of the image does not count."""
    return sum(marker == START_OF_SCAN for marker, _, _ in _segments(jpeg))


def metadata_bytes(tiff: bytes) -> int:
    """How many bytes the tags of the first directory point at: of a TIFF, of EXIF, or of a multi-picture index."""
    return sum(size for _, _, _, size in _tags(tiff))


def _check_jpeg(image: bytes, place: str) -> None:
    exif, indices = [], []
    for number, (marker, start, end) in enumerate(_segments(image)):
        if marker == START_OF_SCAN:  # Pillow reads so far when it opens a file; what follows is quick
            break
        if number >= MAX_SEGMENTS:
            raise TooLarge(place, MAX_SEGMENTS, "segments")
        if image.startswith(EXIF, start):
            exif.append(image[start + len(EXIF) : end])
        elif image.startswith(MULTI_PICTURE, start):
            indices.append(image[start + len(MULTI_PICTURE) : end])
    if max(map(metadata_bytes, [b"".join(exif), *indices])) > MAX_METADATA:
        raise TooLarge(place, MAX_METADATA, "bytes of metadata")


def _segments(jpeg: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(marker, start, end) of each segment up to the end of the image. A segment says how long it is."""
    position = 0
    while found := MARKER.search(jpeg, position):
        marker, position = found[1], found.end()
        if marker == END_OF_IMAGE:
            break
        start = position
        if marker not in WITHOUT_LENGTH:
            start += 2
            position += int.from_bytes(jpeg[position : position + 2], "big")
        yield marker, start, position


def _check_png(image: bytes, place: str) -> None:
    chunks = compressed = 0
    position = len(PNG)
    while position + 8 <= len(image):
        length, kind = struct.unpack_from(">I4s", image, position)
        position += 12 + length
        chunks += kind != b"IDAT"
        compressed += kind in COMPRESSED_CHUNKS
        if chunks > MAX_CHUNKS:
            raise TooLarge(place, MAX_CHUNKS, "chunks")
        if compressed > MAX_COMPRESSED_CHUNKS:
            raise TooLarge(place, MAX_COMPRESSED_CHUNKS, "compressed chunks of text or profiles")


def _check_tiff(image: bytes, place: str) -> None:
    metadata = 0
    for tag, count, value, size in _tags(image):
        metadata += size
        if metadata > MAX_METADATA:
            raise TooLarge(place, MAX_METADATA, "bytes of metadata")
        if tag in (STRIP_OFFSETS, TILE_OFFSETS) and count > MAX_STRIPS:
            raise TooLarge(place, MAX_STRIPS, "strips or tiles")
        if tag == COMPRESSION and value not in COMPRESSIONS:
            raise Unsupported(place, "a TIFF with another compression than LZW, deflate, PackBits and JPEG")


def _tags(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(tag, count, the value or where it lies, bytes that are read for it) of each entry of the first directory."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = tiff[2:3] == b"+" or tiff[3:4] == b"+"
    word, entry, inline = ("Q", "HHQQ", 8) if big else ("I", "HHII", 4)
    try:
        (offset,) = struct.unpack_from(order + word, tiff, 8 if big else 4)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    except (struct.error, OverflowError):
        return
    offset += 8 if big else 2
    step = struct.calcsize(order + entry)
    for at in range(offset, min(offset + entries * step, len(tiff) - step + 1), step):
        tag, kind, count, value = struct.unpack_from(order + entry, tiff, at)
        size = SIZES.get(kind, 0) * count
        if size <= inline and kind == 3:  # a short lies in the first half
            (value,) = struct.unpack_from(order + "H", tiff, at + step - inline)
        yield tag, count, value, size if inline < size and value + size <= len(tiff) else 0
