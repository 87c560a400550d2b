"""What an image file asks for, told from its own bytes before a decoder sees them.

Pillow reads all that comes before the pixels when it opens a file: it follows every segment, chunk and tag, and copies
what each points at. A few bytes can so ask for gigabytes, or for seconds. What pixels do not need is left out here, as
far as that is simple, and the rest is bounded, far above what programs write.

Where this module and a decoder read the same bytes differently, a file gets past it. So it takes less than they do:
what only one of them would accept is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vision.errors import NotAnImage, TooLarge, Unsupported

MAX_SEGMENTS = 2_000  # of a JPEG before its first scan, and after it; 10 MiB of 64 KiB segments are 160
MAX_JUNK = 65_536  # bytes between the parts of a file that belong to none
MAX_CHUNKS = 20_000  # of a PNG, but for IDAT; of a GIF before its first picture
MAX_COMPRESSED_CHUNKS = 100  # of a PNG: profiles and texts, each of which may unpack to a megabyte
MAX_VALUES = 200_000  # of a TIFF's strips: some have one for each row; a palette of 16 bits has 196,608
MAX_FEW_VALUES = 32  # of its other tags: most have one, some one for each channel

# A JPEG's markers, as https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1, has them.
NEXT_MARKER = re.compile(rb"\xff([^\xff])")
MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # what is no marker there is followed by 00
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
RESTARTS = range(0xD0, 0xD8)
WITH_LENGTH = {*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE} - {0xC8}
EXIF, MULTI_PICTURE = b"Exif\0\0", b"MPF\0"

PNG = b"\x89PNG\r\n\x1a\n"
COMPRESSED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt")

GIF_STARTS = (b"GIF87a", b"GIF89a")
EXTENSION, PICTURE, TRAILER, GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0")
ODD_TIFF_STARTS = (b"MM\0+", b"II\0*", b"MM*\0")  # which Pillow reads as something else than libtiff does
# What pixels need, and the orientation. Not: EXIF, GPS and further pictures, each of which is a directory of its own.
LONG_LISTS = {273, 279, 320, 324, 325}  # strips and tiles, their sizes, the palette
BYTE_LISTS = {347, 700}  # what JPEGs have in common, and XMP
TIFF_TAGS = LONG_LISTS | BYTE_LISTS | {254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323, 332, 338}
TIFF_TAGS |= {339, 529, 530, 531, 532}
BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16  # types
COMPRESSION, FILL_ORDER, ORIENTATION = 259, 266, 274
# None, LZW, JPEG, deflate by both its numbers, PackBits. Fax codes go on after an error, with a line in the log for
# each row: 300 KB could write 600 MB.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)


@dataclass(frozen=True)
class Stripped:
    """An image file as a decoder gets it. exif: of a JPEG, which it then lacks. scans: of a JPEG, at most."""

    image: bytes
    exif: bytes = b""
    scans: int = 1


def strip_metadata(image: bytes, place: str, max_pixels: int) -> Stripped:
    """Raises RequestError where a decoder would take long, or much memory: NotAnImage, Unsupported (400), TooLarge."""
    if image.startswith(b"\xff\xd8"):
        return _stripped_jpeg(image, place)
    if image.startswith(GIF_STARTS):
        return Stripped(_without_extensions(image, place))
    if image.startswith(TIFF_STARTS):
        return Stripped(_with_one_directory(image, place))
    if image.startswith(ODD_TIFF_STARTS):
        raise NotAnImage(place)
    if image.startswith(PNG):
        _check_png(image, place)
    elif image[8:16] == b"WEBPVP8X" and len(image) >= 30:
        width, height = (int.from_bytes(image[at : at + 3], "little") + 1 for at in (24, 27))
        if width * height > max_pixels:
            raise TooLarge(place, max_pixels, "pixels")
    return Stripped(image)


def orientation(exif: bytes) -> int | None:
    """What EXIF says of the orientation, 1 to 8 where it is sound; None where it says nothing."""
    start = 0
    while exif.startswith(EXIF, start):  # as Pillow takes it, as often as it comes
        start += len(EXIF)
    found = None
    for tag, kind, count, entry, order in _entries(exif[start:]):
        if tag == ORIENTATION and count == 1 and kind in (SHORT, LONG):
            found = _value(entry, kind, order)
    return found


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _stripped_jpeg(image: bytes, place: str) -> Stripped:
    """Up to the first scan every part has to be one that libjpeg knows: at others it ends, and Pillow goes on."""
    kept: list[bytes] = []
    exif: list[bytes] = []
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
            return Stripped(b"".join(kept), b"".join(exif), _count_scans(image, start - 2, place))
        position += length
        is_exif = image.startswith(EXIF, start + 2)
        if is_exif or image.startswith(MULTI_PICTURE, start + 2):
            kept.append(image[kept_from : found.start()])
            kept_from = position
            if is_exif:
                exif.append(image[start + 2 + len(EXIF) : position])
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


# --- PNG and GIF ------------------------------------------------------------------------------------------------------


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


def _without_extensions(image: bytes, place: str) -> bytes:
    """A GIF with none before its first picture but the last that says which colour is transparent."""
    if len(image) < 13:
        raise NotAnImage(place)
    head = 13 + (3 << (image[10] & 7) + 1 if image[10] & 0x80 else 0)
    control, position, chunks, junk = b"", head, 0, 0
    while position < len(image) and image[position] != TRAILER:
        start = position
        if image[start] == PICTURE:
            return image[:head] + control + image[start:]
        if image[start] == EXTENSION:
            position += 2
            while position < len(image) and image[position]:
                position += 1 + image[position]
                chunks += 1
                if chunks > MAX_CHUNKS:
                    raise TooLarge(place, MAX_CHUNKS, "chunks")
            chunks += 1
            if image[start + 1 : start + 2] == bytes([GRAPHIC_CONTROL]):
                control = image[start : position + 1]
        else:
            junk += 1
        if chunks > MAX_CHUNKS:
            raise TooLarge(place, MAX_CHUNKS, "chunks")
        if junk > MAX_JUNK:
            raise TooLarge(place, MAX_JUNK, "bytes between chunks")
        position += 1
    raise NotAnImage(place)


# --- TIFF -------------------------------------------------------------------------------------------------------------


def _with_one_directory(image: bytes, place: str) -> bytes:
    """A TIFF with a directory of what pixels need, at its end. Everything else stays where it is."""
    kept: dict[int, bytes] = {}
    order = "<"
    for tag, kind, count, entry, order in _entries(image):
        if tag not in TIFF_TAGS or tag in kept:
            continue
        if tag in BYTE_LISTS:
            if kind in (BYTE, UNDEFINED) and count <= MAX_JUNK:
                kept[tag] = entry
            continue
        most = MAX_VALUES if tag in LONG_LISTS else MAX_FEW_VALUES
        if count > most:
            raise TooLarge(place, most, "values in a tag")
        if tag in LONG_LISTS and kind not in (SHORT, LONG, LONG8):
            raise NotAnImage(place)
        value = _value(entry, kind, order) if count == 1 and kind in (SHORT, LONG) else None
        if tag == COMPRESSION and value not in COMPRESSIONS:
            raise Unsupported(place, "a TIFF with another compression than LZW, deflate, PackBits and JPEG")
        if tag == FILL_ORDER and value != 1:  # libtiff turns each strip round, as long as it says it is
            raise Unsupported(place, "a TIFF with its bits in reverse order")
        kept[tag] = entry
    if not kept:
        raise NotAnImage(place)
    image += bytes(len(image) % 2)
    big = _is_big(image)
    number, offset = struct.pack(order + ("Q" if big else "H"), len(kept)), order + ("Q" if big else "I")
    directory = number + b"".join(kept[tag] for tag in sorted(kept)) + struct.pack(offset, 0)
    at = 8 if big else 4
    return image[:at] + struct.pack(offset, len(image)) + image[2 * at :] + directory


def _entries(tiff: bytes) -> Iterator[tuple[int, int, int, bytes, str]]:
    """(tag, type, count, the whole entry, byte order) of each entry of the first directory: of a TIFF, or of EXIF."""
    order, big = "<" if tiff[:2] == b"II" else ">", _is_big(tiff)
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    except (struct.error, OverflowError):
        return
    offset += 8 if big else 2
    layout = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    for at in range(offset, min(offset + entries * layout.size, len(tiff) - layout.size + 1), layout.size):
        yield *layout.unpack_from(tiff, at), tiff[at : at + layout.size], order


def _value(entry: bytes, kind: int, order: str) -> int:
    """The one value of an entry, a SHORT or a LONG: it lies in the entry itself."""
    value: int = struct.unpack_from(order + ("H" if kind == SHORT else "I"), entry, len(entry) // 2 + 2)[0]
    return value


def _is_big(tiff: bytes) -> bool:
    """BigTIFF, by the byte that Pillow goes by."""
    return tiff[2:3] == b"+"
