"""WebP: keeps only the chunks of the first picture. Reads EXIF and XMP."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from vision.errors import DamagedImage, NotAnImage, TooLarge
from vision.image.guards.bounds import MAX_CHUNKS
from vision.image.guards.exif import lacks_entries
from vision.image.guards.stripped import Stripped

# https://developers.google.com/speed/webp/docs/riff_container
EXTENDED, ALPHA, FRAME, ANIMATION = b"VP8X", b"ALPH", b"ANMF", b"ANIM"
LOSSLESS = b"VP8L"
PICTURES = (b"VP8 ", LOSSLESS)
HAS_ALPHA, HAS_EXIF, IS_ANIMATED = 0x10, 0x08, 0x02  # flags of VP8X


def is_webp(image: bytes) -> bool:
    return image[:4] == b"RIFF" and image[8:12] == b"WEBP"


def stripped(image: bytes, place: str, max_pixels: int) -> Stripped:
    """If a file is some bytes short, its last chunk is shortened, so that a picture with all its rows can be decoded.

    A lossless picture needs every byte: libwebp would take a missing one or two for zeros.

    Raises NotAnImage, DamagedImage, TooLarge.
    """
    extended = b""
    kept: list[bytes] = []
    exif = xmp = b""
    has_picture = False
    for number, (kind, content) in enumerate(_chunks(image, 12, place)):
        if number > MAX_CHUNKS:
            if has_picture:
                break
            raise TooLarge(place, MAX_CHUNKS, "chunks")
        if kind == EXTENDED and not extended:
            extended = content
        elif kind == b"EXIF":
            exif = content
        elif kind == b"XMP ":
            xmp = content
        elif has_picture:
            if not extended:
                break
        elif kind in (ALPHA, ANIMATION):
            kept.append(_chunk(kind, content))
        elif kind in PICTURES:
            kept.append(_chunk(kind, content))
            has_picture = True
        elif kind == FRAME:
            inner = [
                _chunk(*each)
                for each in islice(_chunks(content, 16, place), MAX_CHUNKS)
                if each[0] in (ALPHA, *PICTURES)
            ]
            kept.append(_chunk(FRAME, content[:16] + b"".join(inner)))
            has_picture = True
    if extended:
        if len(extended) < 10:
            raise DamagedImage(place, "WebP")
        # Pillow allocates the canvas before it finds that the picture is smaller.
        width, height = (int.from_bytes(extended[at : at + 3], "little") + 1 for at in (4, 7))
        if width * height > max_pixels:
            raise TooLarge(place, max_pixels, "pixels")
        is_short = int.from_bytes(image[4:8], "little") + 8 > len(image)
        if is_short and extended[0] & HAS_EXIF and lacks_entries(exif):  # the orientation may be missing
            raise DamagedImage(place, "WebP")
        flags = extended[0] & (HAS_ALPHA | IS_ANIMATED)
        kept.insert(0, _chunk(EXTENDED, bytes([flags]) + extended[1:10]))
    if not kept:
        raise NotAnImage(place)
    if not has_picture:
        raise DamagedImage(place, "WebP")
    chunks = b"".join(kept)
    return Stripped(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks, exif, xmp, format="WebP")


def _chunks(image: bytes, start: int, place: str) -> Iterator[tuple[bytes, bytes]]:
    """The last chunk may be cut off by the end of the file. Raises DamagedImage."""
    while start + 8 < len(image):
        kind, length = struct.unpack_from("<4sI", image, start)
        if kind == LOSSLESS and start + 8 + length > len(image):
            raise DamagedImage(place, "WebP")
        yield kind, image[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
