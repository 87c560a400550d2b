"""TIFF: of its tags those that pixels need are read, and few values of each."""

from __future__ import annotations

from vision.errors import DamagedImage, NotAnImage, TooLarge, Unsupported
from vision.image.guards.bounds import MAX_JUNK
from vision.image.guards.tiff_directory import BYTE, LONG, LONG8, SHORT, UNDEFINED, Entry, entries, is_cut

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ODD_STARTS = (b"II\0*", b"MM*\0")  # which Pillow reads, and libtiff does not

SHORTEST = 8  # bytes of a header: in no more than that, there is nothing of an image
MAX_VALUES = 200_000  # of the strips: some have one for each row; a palette of 16 bits has 196,608
MAX_FEW_VALUES = 32  # of the other tags: most have one, some one for each channel

COMPRESSION, FILL_ORDER = 259, 266

# What pixels need, and the orientation. Not: EXIF, GPS and further pictures, each of which is a directory of its own.
LONG_LISTS = {273, 279, 320, 324, 325}  # strips and tiles, their sizes, the palette
BYTE_LISTS = {347, 700}  # what JPEGs have in common, and XMP
OF_PIXELS = LONG_LISTS | BYTE_LISTS | {256, 257, 258, 262, 277, 278, 284, 317, 322, 323, 332, 338, 339}
OF_PIXELS |= {529, 530, 531, 532, COMPRESSION, FILL_ORDER}
PREVIEW, OTHER_PICTURES, RAW = 254, 330, 50706  # NewSubfileType, SubIFDs, DNGVersion: told by, and never followed

# None, LZW, JPEG, deflate by both its numbers, PackBits. Fax codes go on after an error, with a line in the log for
# each row: 300 KB could write 600 MB.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)


def tags(image: bytes, place: str) -> dict[int, Entry]:
    """The tags that pixels need: of one that comes twice, the first.

    Raises NotAnImage, DamagedImage, Unsupported, TooLarge.
    """
    if is_cut(image) and len(image) > SHORTEST:  # the directory often is the last part of a file
        raise DamagedImage(place, "TIFF")
    kept: dict[int, Entry] = {}
    seen: set[int] = set()
    for entry in entries(image):
        tag = entry.tag
        if tag in seen:
            continue
        seen.add(tag)
        if tag == RAW or (tag == PREVIEW and entry.value is not None and entry.value & 1):
            kept[tag] = entry
        if tag not in OF_PIXELS:
            continue
        if tag in BYTE_LISTS:
            if entry.kind in (BYTE, UNDEFINED) and entry.values <= MAX_JUNK:
                kept[tag] = entry
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
        kept[tag] = entry
    if RAW in kept or (PREVIEW in kept and OTHER_PICTURES in seen):
        raise Unsupported(place, "a camera's raw file (TIFF with a preview)", "develop it to a JPEG")
    if not kept:
        raise NotAnImage(place)
    return kept
