"""GIF: whatever comes before its first picture is counted and left out."""

from __future__ import annotations

from vision.errors import DamagedImage, NotAnImage, TooLarge
from vision.image.guards.bounds import MAX_CHUNKS, MAX_JUNK

STARTS = (b"GIF87a", b"GIF89a")
EXTENSION, PICTURE, TRAILER, GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def without_extensions(image: bytes, place: str) -> bytes:
    """The GIF without the extensions before its first picture, except the last one that sets the transparent colour.

    Raises NotAnImage, DamagedImage, TooLarge.
    """
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
    raise DamagedImage(place, "GIF")
