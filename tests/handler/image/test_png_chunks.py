"""Whatever a PNG, an APNG or a WebP has in addition to its pixels, right or wrong, changes no answer."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reliability.corpus import chunk
from reliability.decoding import decode
from reliability.pictures import encoded, gradient
from vision.errors import DamagedImage

PIXELS = 1_000_000
RGB = gradient(320, 260)
PNG = encoded(RGB)
PALETTED = encoded(RGB.quantize(16), transparency=3)
PROFILE = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()


def bad_sum(kind: bytes, content: bytes) -> bytes:
    return chunk(kind, content)[:-4] + b"\0\0\0\0"


ANCILLARY = {
    **{
        f"{kind.decode()}, a wrong sum": bad_sum(kind, b"\0" * 9)
        for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"bKGD")
    },
    **{
        f"{kind.decode()}, short": chunk(kind, b"\0") for kind in (b"pHYs", b"gAMA", b"cHRM", b"tIME", b"sBIT", b"hIST")
    },
    **{f"{kind.decode()}, empty": chunk(kind, b"") for kind in (b"sRGB", b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")},
    "iCCP, a wrong sum": bad_sum(b"iCCP", b"icc\0\0" + zlib.compress(bytes(500))),
    "iCCP, no zlib": chunk(b"iCCP", b"icc\0\0garbage"),
    "iCCP, another method": chunk(b"iCCP", b"icc\0\7" + zlib.compress(bytes(500))),
    "iCCP, 3 MB": chunk(b"iCCP", b"icc\0\0" + zlib.compress(PROFILE)),
    "iCCP, 3 MB of nothing": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000))),
    "zTXt, 3 MB": chunk(b"zTXt", b"Raw profile type icc\0\0" + zlib.compress(PROFILE)),
    "zTXt, no zlib": chunk(b"zTXt", b"key\0\0garbage"),
    "zTXt, EXIF that is none": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzzzz")),
    "zTXt, EXIF of no zlib": chunk(b"zTXt", b"Raw profile type exif\0\0garbage"),
    "iTXt, 3 MB": chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(PROFILE)),
    "iTXt, XMP of 60 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(60_000_000))),
    "iTXt, XMP cut": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
    "iTXt, not UTF-8": chunk(b"iTXt", b"key\0\0\0\xff\xff\0\xff\0\xff"),
    "tEXt, 2 MB": chunk(b"tEXt", b"key\0" + b"x" * 2_000_000),
    "eXIf, garbage": chunk(b"eXIf", PROFILE[:1000]),
    "acTL, short": chunk(b"acTL", b"\0"),
    "acTL, no frames": chunk(b"acTL", bytes(8)),
    "acTL, a wrong sum": bad_sum(b"acTL", struct.pack(">II", 2, 0)),
    "fcTL, short": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0"),
    "fcTL, of another size": chunk(b"acTL", struct.pack(">II", 1, 0))
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 5, 5, 3, 3, 1, 1, 0, 0)),
    "PLTE, suggested": bad_sum(b"PLTE", bytes(5)),
    # Their checksums are the ends of names that are searched for.
    "tEXt, nearly EXIF": struct.pack(">I", 18) + b"tEXtRaw profile type exif\0",
    "iTXt, nearly XMP": struct.pack(">I", 14) + b"iTXtXML:com.adobe.xmp\0",
    "an unknown one": chunk(b"abCd", PROFILE),
}


@pytest.mark.parametrize("name", ANCILLARY)
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_what_pixels_do_not_need_changes_nothing(name: str, behind: bool) -> None:
    at = -12 if behind else 33
    file = PNG[:at] + ANCILLARY[name] + PNG[at:]
    assert (decode(file, PIXELS) == decode(PNG, PIXELS)).all()


@pytest.mark.parametrize("kind", [b"IDAT", b"tRNS", b"IEND"])
def test_wrong_sums_of_what_is_sound(kind: bytes) -> None:
    """zlib has its own checksum for the pixels; a transparent colour is used regardless."""
    at = PALETTED.index(kind)
    end = at + 4 + int.from_bytes(PALETTED[at - 4 : at], "big")
    file = PALETTED[:end] + b"\0\0\0\0" + PALETTED[end + 4 :]
    assert (decode(file, PIXELS) == decode(PALETTED, PIXELS)).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_wrong_sums_of_what_pixels_need_are_damage(kind: bytes) -> None:
    at = PALETTED.index(kind)
    end = at + 4 + int.from_bytes(PALETTED[at - 4 : at], "big")
    with pytest.raises(DamagedImage, match="the PNG image is truncated or damaged"):
        decode(PALETTED[:end] + b"\0\0\0\0" + PALETTED[end + 4 :], PIXELS)


EXIF_OF_SIX = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
XMP_OF_SIX = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
DIGITS = b"\nexif\n      26\n" + EXIF_OF_SIX.hex().encode() + b"\n"
TURNED = {
    "eXIf": chunk(b"eXIf", EXIF_OF_SIX),
    "eXIf, a wrong sum": bad_sum(b"eXIf", EXIF_OF_SIX),
    "eXIf of 3 MB": chunk(b"eXIf", EXIF_OF_SIX + PROFILE),
    "tEXt": chunk(b"tEXt", b"Raw profile type exif\0" + DIGITS),
    "zTXt": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(DIGITS)),
    "iTXt": chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + DIGITS),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_OF_SIX),
    "XMP, packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP_OF_SIX)),
}


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_what_says_how_it_is_turned_is_read_wherever_it_is(name: str, behind: bool) -> None:
    at = -12 if behind else 33
    turned = decode(encoded(RGB.transpose(Image.Transpose.ROTATE_270)), PIXELS)
    assert np.abs(decode(PNG[:at] + TURNED[name] + PNG[at:], PIXELS).astype(int) - turned).max() <= 1


# ---- WebP ------------------------------------------------------------------------------------------------------------


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


PICTURE = encoded(RGB, "WEBP", lossless=True)[12:]
EXTENDED = webp_chunk(b"VP8X", bytes([0x2C, 0, 0, 0]) + (319).to_bytes(3, "little") + (259).to_bytes(3, "little"))

WEBP = {
    "a profile of 3 MB": riff(EXTENDED, webp_chunk(b"ICCP", PROFILE), PICTURE),
    "no profile, and its flag": riff(EXTENDED, PICTURE),
    "EXIF of garbage": riff(EXTENDED, PICTURE, webp_chunk(b"EXIF", PROFILE[:999])),
    "an unknown chunk first": riff(EXTENDED, webp_chunk(b"abcd", PROFILE[:999]), PICTURE),
    "an unknown chunk behind it": riff(PICTURE, webp_chunk(b"abcd", PROFILE[:999])),
    "a chunk that is cut": riff(EXTENDED, PICTURE, webp_chunk(b"XMP ", PROFILE[:999])[:500]),
    "something behind its end": riff(PICTURE) + PROFILE[:1000],
    "a wrong size of the whole": b"RIFF\1\0\0\0" + riff(PICTURE)[8:],
    "a size of nothing": b"RIFF\0\0\0\0" + riff(PICTURE)[8:],
}


@pytest.mark.parametrize("name", WEBP)
def test_what_the_pixels_of_a_webp_do_not_need_changes_nothing(name: str) -> None:
    assert (decode(WEBP[name], PIXELS) == decode(PNG, PIXELS)).all()


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP "])
@pytest.mark.parametrize("first", [False, True])
def test_a_webp_is_turned(kind: bytes, first: bool) -> None:
    said = webp_chunk(kind, EXIF_OF_SIX if kind == b"EXIF" else XMP_OF_SIX)
    file = riff(EXTENDED, said, PICTURE) if first else riff(EXTENDED, PICTURE, said)
    turned = decode(encoded(RGB.transpose(Image.Transpose.ROTATE_270)), PIXELS)
    assert np.abs(decode(file, PIXELS).astype(int) - turned).max() <= 1


# ---- Animations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
def test_later_pictures_may_be_damaged(image_format: str) -> None:
    blue = Image.new("RGB", RGB.size, "blue")
    options = {"lossless": True} if image_format == "WEBP" else {}
    file = encoded(RGB, image_format, save_all=True, append_images=[blue], duration=5, **options)
    whole = decode(file, PIXELS)
    assert (decode(file[: len(file) - 20], PIXELS) == whole).all()


def test_a_default_image_comes_before_the_animation() -> None:
    blue, red = Image.new("RGB", RGB.size, "blue"), Image.new("RGB", RGB.size, "red")
    file = encoded(RGB, "PNG", save_all=True, append_images=[blue, red], default_image=True)
    assert Image.open(io.BytesIO(file)).info["default_image"]
    assert (decode(file, PIXELS) == decode(PNG, PIXELS)).all()


# ---- Damaged chunks that the pixels need -----------------------------------------------------------------------------

INDICES = np.random.default_rng(0).integers(0, 16, (64, 64), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, 48, dtype=np.uint8).tobytes()
LEVELS = bytes(range(0, 160, 10))


def png_of(header: tuple[int, ...], rows: np.ndarray, *before: bytes, behind: bytes = b"") -> bytes:
    """header: from the width on. rows: the bytes of each row."""
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = (chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *before, chunk(b"IDAT", zlib.compress(lines)), behind)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def paletted(*before: bytes, behind: bytes = b"") -> bytes:
    return png_of((64, 64, 8, 3, 0, 0, 0), INDICES, *before, behind=behind)


PALETTE = chunk(b"PLTE", COLOURS)


@pytest.mark.parametrize(
    "file",
    [
        paletted(),
        paletted(behind=PALETTE),
        paletted(PALETTE, PALETTE),
        *(paletted(chunk(b"PLTE", colours)) for colours in (b"", COLOURS[:47], bytes(771))),
        png_of((64, 64, 8, 0, 1, 0, 0), INDICES),
        png_of((64, 64, 8, 0, 0, 1, 0), INDICES),
        png_of((64, 64, 8, 0, 0, 0, 2), INDICES),
        png_of((64, 64, 3, 0, 0, 0, 0), INDICES),
    ],
)
def test_what_has_no_meaning_in_libpng_has_none_here(file: bytes) -> None:
    with pytest.raises(DamagedImage, match="the PNG image is truncated or damaged"):
        decode(file, PIXELS)


@pytest.mark.parametrize(
    ("ignored", "kept"),
    [
        (paletted(chunk(b"tRNS", LEVELS), PALETTE), paletted(PALETTE)),
        (paletted(PALETTE, chunk(b"tRNS", bytes(17))), paletted(PALETTE)),
        (paletted(PALETTE, chunk(b"tRNS", b"")), paletted(PALETTE)),
        (
            paletted(PALETTE, chunk(b"tRNS", LEVELS), chunk(b"tRNS", bytes(16))),
            paletted(PALETTE, chunk(b"tRNS", LEVELS)),
        ),
        *(
            (
                png_of((64, 64, 8, 0, 0, 0, 0), INDICES, chunk(b"tRNS", bytes(size))),
                png_of((64, 64, 8, 0, 0, 0, 0), INDICES),
            )
            for size in (0, 1, 3, 6)
        ),
        *(
            (
                png_of((21, 64, 8, 2, 0, 0, 0), INDICES[:, :63], chunk(b"tRNS", bytes(size))),
                png_of((21, 64, 8, 2, 0, 0, 0), INDICES[:, :63]),
            )
            for size in (0, 2, 5, 7, 12)
        ),
    ],
)
def test_a_transparent_colour_that_is_none_does_not_count(ignored: bytes, kept: bytes) -> None:
    """As in libpng, and thus in browsers."""
    assert (decode(ignored, PIXELS) == decode(kept, PIXELS)).all()


def test_levels_of_the_first_colours_are_taken() -> None:
    some = decode(paletted(PALETTE, chunk(b"tRNS", LEVELS[:3])), PIXELS)
    assert (some == decode(paletted(PALETTE, chunk(b"tRNS", LEVELS[:3] + b"\xff" * 13)), PIXELS)).all()
    assert (some != decode(paletted(PALETTE), PIXELS)).any()
