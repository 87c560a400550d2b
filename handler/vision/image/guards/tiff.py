"""TIFF: what its pixels need is copied into a new directory, and only that is read."""

from __future__ import annotations

import struct

from vision.errors import NotAnImage, TooLarge, Unsupported
from vision.image.guards.bounds import MAX_JUNK
from vision.image.guards.tiff_directory import (
    BYTE,
    LONG,
    LONG8,
    ORIENTATION,
    SHORT,
    UNDEFINED,
    byte_order,
    entries,
    is_big,
)

STARTS = (b"II*\0", b"MM\0*", b"II+\0")
ODD_STARTS = (b"MM\0+", b"II\0*", b"MM*\0")  # which Pillow reads as something else than libtiff does

MAX_VALUES = 200_000  # of the strips: some have one for each row; a palette of 16 bits has 196,608
MAX_FEW_VALUES = 32  # of the other tags: most have one, some one for each channel

# What pixels need, and the orientation. Not: EXIF, GPS and further pictures, each of which is a directory of its own.
LONG_LISTS = {273, 279, 320, 324, 325}  # strips and tiles, their sizes, the palette
BYTE_LISTS = {347, 700}  # what JPEGs have in common, and XMP
COMPRESSION, FILL_ORDER = 259, 266
TAGS = LONG_LISTS | BYTE_LISTS | {254, 256, 257, 258, 262, 277, 278, 284, 317, 322, 323, 332, 338, 339}
TAGS |= {529, 530, 531, 532, COMPRESSION, FILL_ORDER, ORIENTATION}

# None, LZW, JPEG, deflate by both its numbers, PackBits. Fax codes go on after an error, with a line in the log for
# each row: 300 KB could write 600 MB.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)


def with_one_directory(image: bytes, place: str) -> bytes:
    """A TIFF with a directory of what pixels need, at its end. Everything else stays where it is.

    Raises NotAnImage, Unsupported, TooLarge.
    """
    kept: dict[int, bytes] = {}
    for entry in entries(image):
        tag = entry.tag
        if tag not in TAGS or tag in kept:
            continue
        if tag in BYTE_LISTS:
            if entry.kind in (BYTE, UNDEFINED) and entry.values <= MAX_JUNK:
                kept[tag] = entry.raw
            continue
        most = MAX_VALUES if tag in LONG_LISTS else MAX_FEW_VALUES
        if entry.values > most:
            raise TooLarge(place, most, "values in a tag")
        if tag in LONG_LISTS and entry.kind not in (SHORT, LONG, LONG8):
            raise NotAnImage(place)
        if tag == COMPRESSION and entry.value not in COMPRESSIONS:
            raise Unsupported(place, "a TIFF with another compression than LZW, deflate, PackBits and JPEG")
        if tag == FILL_ORDER and entry.value != 1:  # libtiff turns each strip round, as long as it says it is
            raise Unsupported(place, "a TIFF with its bits in reverse order")
        kept[tag] = entry.raw
    if not kept:
        raise NotAnImage(place)
    image += bytes(len(image) % 2)
    order, big = byte_order(image), is_big(image)
    number, offset = struct.pack(order + ("Q" if big else "H"), len(kept)), order + ("Q" if big else "I")
    directory = number + b"".join(kept[tag] for tag in sorted(kept)) + struct.pack(offset, 0)
    at = 8 if big else 4
    return image[:at] + struct.pack(offset, len(image)) + image[2 * at :] + directory
