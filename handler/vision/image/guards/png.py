"""PNG: keeps the chunks that the pixels need. Reads EXIF and XMP for the orientation, and leaves out the rest."""

from __future__ import annotations

import re
import struct
import zlib

from vision.errors import DamagedImage, NotAnImage, TooLarge, Unsupported
from vision.image.guards.bounds import MAX_CHUNKS
from vision.image.guards.exif import lacks_entries
from vision.image.guards.stripped import Stripped

START = b"\x89PNG\r\n\x1a\n"
KIND = re.compile(rb"[A-Za-z]{4}")
GREY, RGB, PALETTE = 0, 2, 3
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}
HEADER_BYTES = 13
MAX_PALETTE = 3 << 8
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
PIECE = 16_384  # bytes unpacked at a time, to at most 17 million

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
EXIF_AS_TEXT = b"Raw profile type exif\0"  # ImageMagick's name; hexadecimal digits follow
XMP_AS_TEXT = b"XML:com.adobe.xmp\0"
NO_TEXT = (b"tEXt", b"\0")
MAX_TEXT = 1 << 20  # unpacked bytes of a text; EXIF has up to 65,536, and twice as many digits


def stripped(image: bytes, place: str) -> Stripped:
    """Keeps IHDR, PLTE, tRNS, IDAT and IEND, and returns EXIF and XMP separately. Checksums of others are ignored.

    Pillow would misread an invalid palette or transparent colour. Like libpng, we call an invalid palette damage and
    ignore an invalid transparent colour.
    Raises NotAnImage, DamagedImage, Unsupported, TooLarge.
    """
    header, palette, transparency, kept = b"", b"", b"", [START]
    pixels: list[bytes] = []
    exif = b""
    texts: dict[bytes, tuple[bytes, bytes]] = {}  # by name; only the last of each is unpacked
    position, chunks, before = len(START), 0, b""
    while position + 8 <= len(image):
        length, kind = struct.unpack_from(">I4s", image, position)
        if not KIND.match(kind):
            break
        start, end = position + 8, position + 8 + length
        chunks += kind != b"IDAT"
        if chunks > MAX_CHUNKS:
            raise TooLarge(place, MAX_CHUNKS, "chunks")
        if kind == b"CgBI":
            raise Unsupported(place, "Apple's CgBI PNG (from an iOS app)", "convert it to an ordinary PNG")
        if kind == b"IHDR" and not header:
            header = image[start:end]
            kept.append(image[position : end + 4])
        elif kind == b"PLTE" and not pixels and header[9:10] == bytes([PALETTE]):
            if palette or length % 3 or not 0 < length <= MAX_PALETTE:
                raise DamagedImage(place, "PNG")
            palette = image[start:end]
            kept.append(image[position : end + 4])
        elif kind == b"tRNS" and not pixels and not transparency and _is_transparency(header, palette, length):
            transparency = _transparency(header, image[start:end])
            kept.append(_chunk(b"tRNS", transparency))
        elif kind == b"IDAT" and (not pixels or before == b"IDAT"):
            pixels.append(image[start:end])
        elif kind == b"eXIf":
            exif = image[start:end]
            if end > len(image) and lacks_entries(exif):  # the orientation may be missing
                raise DamagedImage(place, "PNG")
        elif kind in TEXTS and image.startswith(EXIF_AS_TEXT, start, end):
            texts[EXIF_AS_TEXT] = kind, image[start:end]
        elif kind == b"iTXt" and image.startswith(XMP_AS_TEXT, start, end):
            texts[XMP_AS_TEXT] = kind, image[start:end]
        elif kind == b"IEND":
            break
        position, before = end + 4, kind
    if not header:
        raise NotAnImage(place)
    # There is only one compression method; Pillow does not check it.
    if len(header) != HEADER_BYTES or header[10] or (header[9] == PALETTE and not palette):
        raise DamagedImage(place, "PNG")
    kept += [_chunk(b"IDAT", b"".join(pixels)), _chunk(b"IEND", b"")]
    exif = exif or _from_digits(_text(*texts.get(EXIF_AS_TEXT, NO_TEXT)))
    return Stripped(b"".join(kept), exif, _text(*texts.get(XMP_AS_TEXT, NO_TEXT)), format="PNG")


def has_all_rows(png: bytes) -> bool:
    """Whether the pixels unpack to as many bytes as the rows need. Pillow accepts fewer and leaves the rest black.

    png: as `stripped` leaves it.
    """
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, len(START) + 8)
    position, missing = len(START), 0
    for x, y, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * CHANNELS[colour] * bits // 8))
    while png[position + 4 : position + 8] != b"IDAT":
        position += 12 + int.from_bytes(png[position : position + 4], "big")
    end = position + 8 + int.from_bytes(png[position : position + 4], "big")
    unpacking = zlib.decompressobj()
    for start in range(position + 8, end, PIECE):
        missing -= len(unpacking.decompress(png[start : min(start + PIECE, end)]))
        if missing <= 0:
            return True
    return False


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _is_transparency(header: bytes, palette: bytes, length: int) -> bool:
    """Judged by its length: two bytes per channel for a colour, or one byte per palette entry, from the first on."""
    colour = header[9:10]
    if colour == bytes([PALETTE]):
        return 0 < length <= len(palette) // 3
    return (colour, length) in ((bytes([GREY]), 2), (bytes([RGB]), 6))


def _transparency(header: bytes, colour: bytes) -> bytes:
    """The transparent colour as Pillow compares it: it scales grey of two or four bits to eight."""
    bits, kind = header[8:9], header[9:10]
    if kind == bytes([GREY]) and len(colour) == 2 and bits in (b"\2", b"\4"):
        value = int.from_bytes(colour[:2], "big") & (1 << bits[0]) - 1
        return (value * 255 // ((1 << bits[0]) - 1)).to_bytes(2, "big")
    return colour


def _text(kind: bytes, content: bytes) -> bytes:
    """What follows the name; empty if it cannot be unpacked."""
    text = content.split(b"\0", 1)[1]
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        text = text[1:]
    elif kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
    if not packed:
        return text[:MAX_TEXT]
    try:
        return zlib.decompressobj().decompress(text, MAX_TEXT)
    except zlib.error:
        return b""


def _from_digits(text: bytes) -> bytes:
    """The digits follow two lines, with a name and a length."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
