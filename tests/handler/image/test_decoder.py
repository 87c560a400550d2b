"""Any image becomes the pixels that torchvision would see, or a clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from reliability.bombs import repeated_scans
from reliability.corpus import chunk
from reliability.decoding import decode
from reliability.pictures import encoded, gradient
from tests.support.torchvision_pixels import reference_pixels
from vision.errors import DamagedImage, NotAnImage, TooLarge
from vision.image.decoder import open_image

PIXELS = 50_000_000


def pixels(image: bytes) -> np.ndarray:
    decoded = decode(image, PIXELS)
    assert decoded.shape == (224, 224, 3)
    assert decoded.dtype == np.uint8
    return decoded


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference, in levels of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    "size",
    [(256, 256), (224, 224), (100, 100), (500, 375), (375, 500), (257, 300), (300, 257), (640, 427), (1, 1), (1, 700),
     (700, 1), (37, 911), (1000, 256), (333, 1001)],
)  # fmt: skip
def test_every_size_is_resized_and_cropped_as_torchvision_does(size: tuple[int, int]) -> None:
    image = encoded(gradient(*size))
    assert difference(pixels(image), reference_pixels(image)) <= 1


def test_photographs_are_resized_as_torchvision_does(photographs: list[Path]) -> None:
    for photograph in photographs:
        image = photograph.read_bytes()
        assert difference(pixels(image), reference_pixels(image)) <= 1


@pytest.mark.slow
def test_a_large_jpeg_is_decoded_small_and_stays_close() -> None:
    image = encoded(gradient(4000, 3000), "JPEG", quality=95)
    assert difference(pixels(image), reference_pixels(image)) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(320, 260), (260, 321), (1500, 2100)])
def test_exif_orientation_comes_first(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = encoded(gradient(*size), "JPEG", quality=95, exif=exif)
    assert difference(pixels(image), reference_pixels(image)) <= 3


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF_OF_SIX = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def with_exif(image_format: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(gradient(320, 260), image_format, exif=exif, **options)


def jpeg_with(segment: bytes) -> bytes:
    jpeg = encoded(gradient(320, 260), "JPEG", quality=95)
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


TURNED = {
    "png": lambda: with_exif("PNG"),
    "webp": lambda: with_exif("WEBP", lossless=True),
    "tiff": lambda: with_exif("TIFF"),
    "tiff lzw": lambda: with_exif("TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: with_exif("TIFF", compression="jpeg", quality=95),
    "big tiff": lambda: with_exif("TIFF", big_tiff=True),
    "tiff, xmp": lambda: encoded(gradient(320, 260), "TIFF", tiffinfo={700: XMP}),
    "jpeg, the other byte order": lambda: jpeg_with(b"Exif\0\0" + EXIF_OF_SIX),
    "jpeg, begun twice": lambda: jpeg_with(b"Exif\0\0Exif\0\0" + EXIF_OF_SIX),
    "jpeg, xmp": lambda: jpeg_with(b"http://ns.adobe.com/xap/1.0/\0" + XMP),
}


@pytest.mark.parametrize("name", TURNED)
def test_the_orientation_of_any_format_comes_first(name: str) -> None:
    image = TURNED[name]()
    turned = reference_pixels(image)
    assert difference(pixels(image), turned) <= 3
    assert difference(pixels(encoded(gradient(320, 260))), turned) > 30, "it does not show"


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("key", [b"xmp", b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp"])
def test_texts_with_names_of_metadata_turn_nothing(kind: bytes, key: bytes) -> None:
    """Pillow keeps them in addition to what it made from the file."""
    said = b"no orientation"
    text = {b"tEXt": said, b"zTXt": b"\0" + zlib.compress(said), b"iTXt": b"\0\0\0\0" + said}[kind]
    png = encoded(gradient())
    with_text = png[:33] + chunk(kind, key + b"\0" + text) + png[33:]
    assert difference(pixels(with_text), pixels(png)) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_senseless_orientation_is_none(orientation: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = encoded(gradient(), "JPEG")
    assert difference(pixels(encoded(gradient(), "JPEG", exif=exif)), pixels(plain)) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter() -> None:
    image = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert difference(pixels(image), pixels(encoded(gradient(), "JPEG"))) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_png_modes_become_rgb(mode: str) -> None:
    grey = gradient().convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    else:
        picture = grey.convert(mode)
    expected = picture.convert("L") if mode in ("1", "P") else grey
    shown = pixels(encoded(picture))
    assert difference(shown, reference_pixels(encoded(expected.convert("RGB")))) <= 1


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = encoded(gradient().convert("CMYK"), "JPEG", quality=95)
    assert difference(pixels(image), reference_pixels(image)) <= 1
    assert difference(pixels(image), reference_pixels(encoded(gradient()))) < 16


def test_sixteen_bit_tiff_keeps_its_upper_bits() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (256, 1))
    shown = pixels(encoded(Image.fromarray(ramp), "TIFF"))
    assert difference(shown[100, :, 0], (ramp >> 8)[100, 16:240].astype(np.uint8)) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    assert (pixels(encoded(Image.new(mode, (300, 300), 0))) == 255).all()


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(image_format: str) -> None:
    picture = Image.new("P", (300, 300), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    assert (pixels(encoded(picture, image_format, transparency=1)) == 255).all()
    assert (pixels(encoded(picture, image_format)) == (10, 20, 30)).all()


def test_half_transparent_is_mixed_with_white() -> None:
    shown = pixels(encoded(Image.new("RGBA", (300, 300), (0, 100, 255, 128))))
    assert difference(shown, np.broadcast_to((127, 177, 255), shown.shape)) <= 1


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several_counts(image_format: str) -> None:
    red, blue = Image.new("RGB", (300, 300), "red"), Image.new("RGB", (300, 300), "blue")
    image = encoded(red, image_format, save_all=True, append_images=[blue])
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(image))))) == 2
    assert difference(pixels(image), np.broadcast_to((255, 0, 0), (224, 224, 3))) <= 3


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_that_the_errors_name(image_format: str) -> None:
    image = encoded(gradient(), image_format)
    assert difference(pixels(image), reference_pixels(image)) <= 1


@pytest.mark.parametrize(
    "image",
    [b"", b"\0", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ",
     encoded(gradient(), "TGA"), encoded(gradient(), "PCX"), bytes(1000), b"\xff" * 1000],
)  # fmt: skip
def test_what_is_no_image_of_these_formats(image: bytes) -> None:
    with pytest.raises(NotAnImage, match="not an image") as caught:
        decode(image, PIXELS, "instances[2].b64")
    assert str(caught.value) == "instances[2].b64: not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_an_image_is_damaged(image_format: str) -> None:
    image = encoded(gradient(), image_format)
    with pytest.raises((DamagedImage, NotAnImage)) as caught:  # WebP and TIFF need the rest to be recognised
        decode(image[: len(image) // 2], PIXELS, "instances[0].b64")
    assert caught.value.status == 400
    assert str(caught.value).startswith("instances[0].b64: ")


def test_the_damaged_format_is_named() -> None:
    image = encoded(gradient(), "JPEG")
    with pytest.raises(DamagedImage) as caught:
        decode(image[: len(image) // 2], PIXELS)
    assert str(caught.value) == "body: the JPEG image is truncated or damaged"


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a picture of this size but holds none: a refusal must not try to decode it."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT5\xaf\x06\x1e" + end
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(50_000_001, 1), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(TooLarge) as caught:
        decode(png_header(*size), PIXELS)
    assert (caught.value.status, str(caught.value)) == (413, "body: more than 50000000 pixels")


def test_the_limit_of_pixels_is_exact() -> None:
    image = encoded(gradient(100, 100))
    decode(image, max_pixels=10_000)
    with pytest.raises(TooLarge):
        decode(image, max_pixels=9_999)


def test_scans_of_a_progressive_jpeg_count_as_pixels() -> None:
    """Each scan covers the whole picture: a small file could keep a decoder busy for minutes."""
    image = encoded(gradient(2000, 2000), "JPEG", progressive=True)
    decode(image, PIXELS)
    last_scan = image[image.rindex(b"\xff\xda") : -2]
    with pytest.raises(TooLarge):
        decode(image[:-2] + last_scan * 700 + image[-2:], PIXELS)


@pytest.mark.parametrize("between", [b"", b"\xff\x01", b"\xff\xd0", b"\xff\xff\xff", b"\xff\xfe\0\x04ab", b"garbage"])
def test_scans_of_a_baseline_jpeg_count_too(between: bytes) -> None:
    open_image(repeated_scans(0), "body", PIXELS)  # most of it is missing
    with pytest.raises(TooLarge):
        decode(repeated_scans(200, between), PIXELS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_thumbnail_is_no_scan() -> None:
    """A segment may hold any bytes, because it states its length."""
    decode(encoded(gradient(2000, 2000), "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 5000), PIXELS)


def test_a_baseline_jpeg_may_have_anything_behind_its_end() -> None:
    decode(encoded(gradient(2000, 2000), "JPEG") + b"\xff\xda" * 5000, PIXELS)


def test_tiles_of_a_tiff_count_as_pixels() -> None:
    """A one-pixel picture may be in a one-gigabyte tile."""
    tags = [(256, 4, 1), (257, 4, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, 30_000), (323, 4, 30_000), (324, 4, 200), (325, 4, 64)]
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags)
    image = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(TooLarge):
        decode(image.ljust(300, b"\0"), PIXELS)
