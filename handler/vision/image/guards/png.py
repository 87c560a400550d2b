"""PNG: the chunks that its pixels need are kept. EXIF and XMP are read, for how it is turned; the rest is left out."""

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

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
EXIF_AS_TEXT = b"Raw profile type exif\0"  # ImageMagick's, in hexadecimal digits
XMP_AS_TEXT = b"XML:com.adobe.xmp\0"
NO_TEXT = (b"tEXt", b"\0")
MAX_TEXT = 1 << 20  # bytes that a text may unpack to; EXIF has up to 65,536, and twice as many digits


def stripped(image: bytes, place: str) -> Stripped:
    """IHDR, PLTE, tRNS, IDAT and IEND, whatever the check sums of the others say; and EXIF and XMP beside it.

    Raises NotAnImage, DamagedImage, Unsupported, TooLarge.
    """
    header, kept = b"", [START]
    pixels: list[bytes] = []
    exif = b""
    texts: dict[bytes, tuple[bytes, bytes]] = {}  # by their names, the last of each: only that is unpacked
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
            raise Unsupported(place, "Apple's CgBI PNG (of an iOS app)", "convert it to an ordinary PNG")
        if kind == b"IHDR" and not header:
            header = image[start:end]
            kept.append(image[position : end + 4])
        elif kind == b"PLTE" and not pixels and header[9:10] == bytes([PALETTE]):
            kept.append(image[position : end + 4])
        elif kind == b"tRNS" and not pixels:
            kept.append(_chunk(b"tRNS", _transparency(header, image[start:end])))
        elif kind == b"IDAT" and (not pixels or before == b"IDAT"):
            pixels.append(image[start:end])
        elif kind == b"eXIf":
            exif = image[start:end]
            if end > len(image) and lacks_entries(exif):  # nobody knows how it is turned
                raise DamagedImage(place, "PNG")
        elif kind in TEXTS and image.startswith(EXIF_AS_TEXT, start):
            texts[EXIF_AS_TEXT] = kind, image[start:end]
        elif kind == b"iTXt" and image.startswith(XMP_AS_TEXT, start):
            texts[XMP_AS_TEXT] = kind, image[start:end]
        elif kind == b"IEND":
            break
        position, before = end + 4, kind
    if len(header) < 13:
        raise NotAnImage(place)
    kept += [_chunk(b"IDAT", b"".join(pixels)), _chunk(b"IEND", b"")]
    exif = exif or _from_digits(_text(*texts.get(EXIF_AS_TEXT, NO_TEXT)))
    return Stripped(b"".join(kept), exif, _text(*texts.get(XMP_AS_TEXT, NO_TEXT)), format="PNG")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _transparency(header: bytes, colour: bytes) -> bytes:
    """The transparent colour as Pillow looks for it: in pixels that it has brought to eight bits before.

    Of 16 bits it knows the upper eight for RGB; for grey it has them all.
    """
    bits, kind = header[8:9], header[9:10]
    if kind == bytes([GREY]) and len(colour) >= 2 and bits in (b"\2", b"\4"):
        value = int.from_bytes(colour[:2], "big") & (1 << bits[0]) - 1
        return (value * 255 // ((1 << bits[0]) - 1)).to_bytes(2, "big")
    if kind == bytes([RGB]) and len(colour) >= 6 and bits == b"\x10":
        return bytes([0, colour[0], 0, colour[2], 0, colour[4]])
    return colour


def _text(kind: bytes, content: bytes) -> bytes:
    """What follows the name; empty where it cannot be unpacked."""
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
    """A name and a length, each on a line of its own, come before the digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
