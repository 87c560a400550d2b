"""TIFF: reads only the tags that the pixels need, and few values of each."""

from __future__ import annotations

from vision.errors import DamagedImage, NotAnImage, TooLarge, Unsupported
from vision.image.guards.bounds import MAX_JUNK
from vision.image.guards.tiff_directory import BYTE, LONG, LONG8, SHORT, UNDEFINED, Entry, entries, is_cut

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ODD_STARTS = (b"II\0*", b"MM*\0")  # Pillow reads them, libtiff does not

SHORTEST = 8  # bytes of a header; a file this short holds no image
MAX_VALUES = 200_000  # strips: some files have one per row; a 16-bit palette has 196,608
MAX_FEW_VALUES = 32  # other tags: most have one value, some have one per channel

COMPRESSION, FILL_ORDER = 259, 266

# What the pixels need, and the orientation. Not EXIF, GPS and further pictures, which are directories of their own.
LONG_LISTS = {273, 279, 320, 324, 325}  # strips and tiles, their sizes, the palette
BYTE_LISTS = {347, 700}  # tables shared by JPEGs, and XMP
OF_PIXELS = LONG_LISTS | BYTE_LISTS | {256, 257, 258, 262, 277, 278, 284, 317, 322, 323, 332, 338, 339}
OF_PIXELS |= {529, 530, 531, 532, COMPRESSION, FILL_ORDER}
PREVIEW, OTHER_PICTURES, RAW = 254, 330, 50706  # NewSubfileType, SubIFDs, DNGVersion: only their presence counts

# None, LZW, JPEG, deflate under both its numbers, PackBits. No fax codes: their decoder goes on after an error and logs
# a line for each row, so 300 KB could write 600 MB.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)


def tags(image: bytes, place: str) -> dict[int, Entry]:
    """The tags that the pixels need. If a tag appears twice, the first one wins.

    Raises NotAnImage, DamagedImage, Unsupported, TooLarge.
    """
    if is_cut(image) and len(image) > SHORTEST:  # the directory is often at the end of the file
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
            raise Unsupported(place, "a TIFF with a compression other than LZW, deflate, PackBits or JPEG")
        if tag == FILL_ORDER and entry.value != 1:  # libtiff reverses each strip, at whatever length the file states
            raise Unsupported(place, "a TIFF with its bits in reverse order")
        kept[tag] = entry
    if RAW in kept or (PREVIEW in kept and OTHER_PICTURES in seen):
        raise Unsupported(place, "a camera raw file (TIFF with a preview)", "export it as a JPEG")
    if not kept:
        raise NotAnImage(place)
    return kept
