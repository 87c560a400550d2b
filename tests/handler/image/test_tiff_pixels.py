"""Every kind of TIFF that tifffile can write has the pixels that tifffile and imagecodecs read, or is named.

They are another implementation than Pillow and libtiff, and stand beside the handler in tests only.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from reliability.decoding import decode
from reliability.pictures import encoded, gradient
from tests.support.tiffs import EXPECTED, HEIGHT, PICTURES, Tiff, expected_rgb, variants, written
from tests.support.torchvision_pixels import reference_pixels
from vision.errors import DamagedImage, RequestError, Unsupported
from vision.image.decoder import _silent_libtiff, _to_rgb
from vision.image.tiff import open_tiff


def rgb_of(file: bytes) -> np.ndarray:
    """The whole picture, uint8 of shape (rows, columns, 3)."""
    with _silent_libtiff():
        return np.asarray(_to_rgb(open_tiff(file, "body", 1_000_000).load())).astype(int)


@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_the_pixels_are_those_that_tifffile_reads(picture: Tiff) -> None:
    tried = 0
    for variant in variants(picture):
        file = written(picture, variant)
        page = tifffile.TiffFile(io.BytesIO(file)).pages[0]
        samples = page.asarray()
        tried += 1
        if picture.refused:
            with pytest.raises(Unsupported) as caught:
                rgb_of(file)
            assert picture.refused in str(caught.value), variant
            assert caught.value.status == 400
        else:
            difference = np.abs(rgb_of(file) - expected_rgb(samples, picture, variant)).max()
            assert difference <= picture.tolerance, (variant, difference)
    assert tried >= EXPECTED


def test_differences_of_floating_point_numbers() -> None:
    """libtiff writes these, tifffile does not."""
    grey = np.asarray(gradient(90, 70).convert("L")).astype(np.float32) / 255
    file = encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    assert (rgb_of(file) == np.rint(grey * 255)[..., None]).all()


@pytest.mark.parametrize("colours", ["minisblack", "miniswhite", "rgb", "ycbcr", "separated"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 16}, {"tile": (32, 48)}], ids=["strip", "strips", "tiles"])
@pytest.mark.parametrize("big", [False, True])
def test_jpeg_in_a_tiff(colours: str, layout: dict[str, Any], big: bool) -> None:
    channels = {"rgb": 3, "ycbcr": 3, "separated": 4}.get(colours, 1)
    samples = np.asarray(gradient(90, 70))[..., [0, 1, 2, 0][:channels]]
    samples = samples if channels > 1 else samples[..., 0]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"photometric": colours, "compression": "jpeg", "compressionargs": {"level": 95}} | layout
    tifffile.imwrite(buffer, samples, bigtiff=big, byteorder=">" if big else "<", metadata=None, **options)
    read = tifffile.TiffFile(io.BytesIO(buffer.getvalue())).pages[0].asarray().astype(int)
    if colours == "miniswhite":
        read = 255 - read
    if colours == "separated":
        read = np.rint((255 - read[..., :3]) * (255 - read[..., 3:]) / 255).astype(int)
    expected = read if channels > 1 else read[..., None]
    assert np.abs(rgb_of(buffer.getvalue()) - expected).max() <= 2


def test_planes_of_jpeg_in_a_tiff() -> None:
    planes = np.ascontiguousarray(np.asarray(gradient(90, 70)).transpose(2, 0, 1))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate", compression="jpeg", metadata=None)
    read = tifffile.TiffFile(io.BytesIO(buffer.getvalue())).pages[0].asarray().astype(int)
    assert np.abs(rgb_of(buffer.getvalue()) - read.transpose(1, 2, 0)).max() <= 2


@pytest.mark.parametrize("compression", ["lzw", "adobe_deflate", "packbits"])
def test_ycbcr_without_jpeg(compression: str) -> None:
    """According to TIFF 6.0, section 21: CCIR 601."""
    ycbcr = np.asarray(gradient(90, 70).convert("YCbCr"))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, ycbcr, photometric="ycbcr", compression=compression, metadata=None)
    luma, blue, red = (ycbcr[..., number].astype(float) - (128 if number else 0) for number in range(3))
    green = luma - 0.344136 * blue - 0.714136 * red
    expected = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], axis=-1).clip(0, 255)
    assert np.abs(rgb_of(buffer.getvalue()) - expected).max() <= 2


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpeg2000", "webp", "jpegxl", "png", "jpegxr"])
def test_other_compressions_are_refused(compression: str) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.asarray(gradient(90, 70)), photometric="rgb", compression=compression, metadata=None)
    with pytest.raises(Unsupported, match="a compression other than"):
        rgb_of(buffer.getvalue())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sample", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("order", "<>")
def test_every_kind_is_turned(orientation: int, sample: str, planes: str, order: Any) -> None:
    rgb = np.asarray(gradient(320, 260))
    samples = {"uint8": rgb, "uint16": rgb.astype(np.uint16) * 257, "float32": rgb.astype(np.float32) / 255}[sample]
    if planes == "separate":
        samples = np.ascontiguousarray(samples.transpose(2, 0, 1))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples,
        photometric="rgb",
        planarconfig=planes,
        byteorder=order,
        metadata=None,
        extratags=[(274, 3, 1, orientation, True)],
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = reference_pixels(encoded(gradient(320, 260), "PNG", exif=exif))
    assert np.abs(decode(buffer.getvalue(), 1_000_000).astype(int) - turned.astype(int)).max() <= 1


@pytest.mark.parametrize("width", [36, 37])
def test_rows_of_whole_pairs_of_twelve_bits(width: int) -> None:
    """As some cameras write them: two pixels in three bytes, even at the end of a row."""
    samples = np.random.default_rng(0).integers(0, 4096, (HEIGHT, width + width % 2), dtype=np.uint16)
    digits = (samples[..., None] >> np.arange(11, -1, -1)) & 1
    packed = np.packbits(digits.astype(np.uint8).reshape(HEIGHT, -1), axis=1).tobytes()
    buffer = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "bitspersample": 12, "rowsperstrip": HEIGHT}
    shape = (HEIGHT, width)
    tifffile.imwrite(buffer, iter([packed]), shape=shape, dtype=samples.dtype, metadata=None, **options)
    assert (rgb_of(buffer.getvalue()) == (samples[:, :width, None] >> 4)).all()


def test_a_palette_of_eight_bits() -> None:
    """Some programs write colours from 0 to 255 instead of 65,535."""
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    buffer = io.BytesIO()
    colormap = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16)
    tifffile.imwrite(buffer, indices, photometric="palette", colormap=colormap, metadata=None)
    assert (rgb_of(buffer.getvalue()) == colormap.T[indices]).all()


def test_dng_is_a_raw_file() -> None:
    buffer = io.BytesIO()
    version = (50706, 1, 4, b"\1\4\0\0", True)
    tifffile.imwrite(buffer, np.asarray(gradient(90, 70)), photometric="rgb", metadata=None, extratags=[version])
    with pytest.raises(Unsupported, match="a camera raw file"):
        rgb_of(buffer.getvalue())


@pytest.mark.parametrize("first", [0, 1])
def test_a_preview_is_not_taken_for_the_picture(first: int) -> None:
    """Raw files begin with a preview; pyramids begin with the picture."""
    buffer = io.BytesIO()
    rgb = np.asarray(gradient(90, 70))
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(rgb, photometric="rgb", metadata=None, subfiletype=first, subifds=1)
        tiff.write(rgb[::2, ::2], photometric="rgb", metadata=None, subfiletype=1 - first)
    if first == 1:
        with pytest.raises(Unsupported, match="a camera raw file"):
            rgb_of(buffer.getvalue())
    else:
        assert (rgb_of(buffer.getvalue()) == rgb).all()


def test_ycbcr_without_compression_is_named() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.asarray(gradient(90, 70)), photometric="ycbcr", metadata=None)
    with pytest.raises(Unsupported, match="uncompressed YCbCr"):
        rgb_of(buffer.getvalue())


@pytest.mark.parametrize("colours", [4, 9, 32803, 34892, 32844, 32845, 60000])
def test_other_colours_are_named(colours: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((70, 90), np.uint8), photometric="minisblack", byteorder="<", metadata=None)
    entry, changed = (b"\x06\1\3\0\1\0\0\0" + number.to_bytes(4, "little") for number in (1, colours))
    assert entry in buffer.getvalue()
    with pytest.raises(Unsupported) as caught:
        rgb_of(buffer.getvalue().replace(entry, changed))
    assert str(caught.value).endswith("is not supported: convert it to RGB with 8 bits, or to PNG")


@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("cut", [0, 1, 100, 2000])
def test_a_strip_that_ends_too_early_is_damage(compression: str | None, cut: int) -> None:
    """tifffile writes the pixels last."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    tifffile.imwrite(buffer, noise, photometric="rgb", compression=compression, metadata=None)
    file = buffer.getvalue()
    whole = rgb_of(file)
    try:
        assert (rgb_of(file[: len(file) - cut]) == whole).all()
        assert cut <= 1  # the end of a compression may carry no pixels
    except RequestError as error:
        assert cut
        assert isinstance(error, DamagedImage)
    except OSError:  # raised by Pillow; the decoder calls it damage
        assert cut


# ---- JPEGs in a TIFF that are not as the TIFF says -------------------------------------------------------------------


def tiff_of_a_jpeg(jpeg: bytes, size: tuple[int, int], *tags: tuple[int, int, tuple[int, ...]]) -> bytes:
    """One strip; a tag is its number, its type (3, SHORT) and its values."""
    width, length = size
    given = {tag: (kind, values) for tag, kind, values in tags}
    needed = {256: width, 257: length, 259: 7, 273: 8, 277: len(given[258][1]), 279: len(jpeg)}
    directory = {tag: (4, (value,)) for tag, value in needed.items()} | given
    entries, lists = b"", b""
    behind = 8 + len(jpeg) + 2 + 12 * len(directory) + 4
    for tag, (kind, values) in sorted(directory.items()):
        content = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(content) > 4:
            content, lists = struct.pack("<I", behind + len(lists)), lists + content
        entries += struct.pack("<HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", 8 + len(jpeg))
    return head + jpeg + struct.pack("<H", len(directory)) + entries + bytes(4) + lists


EIGHT = (258, 3, (8, 8, 8))
YCC, RGB = (262, 3, (6,)), (262, 3, (2,))
WHOLE = (530, 3, (1, 1))  # no chroma subsampling
OF_YCC = encoded(gradient(64, 48), "JPEG", subsampling="4:4:4")
OF_RGB = encoded(gradient(64, 48), "JPEG", keep_rgb=True)


def test_a_jpeg_that_is_as_its_tiff_says() -> None:
    for jpeg, colours in ((OF_YCC, YCC), (OF_RGB, RGB)):
        expected = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
        assert np.abs(rgb_of(tiff_of_a_jpeg(jpeg, (64, 48), EIGHT, colours, WHOLE)) - expected).max() <= 2


@pytest.mark.parametrize(("jpeg", "colours"), [(OF_YCC, RGB), (OF_RGB, YCC)], ids=["called RGB", "called YCbCr"])
def test_a_jpeg_of_other_colours_is_named(jpeg: bytes, colours: tuple[int, int, tuple[int, ...]]) -> None:
    """tifffile follows the JPEG, and libtiff the TIFF."""
    with pytest.raises(Unsupported, match="JPEGs have other colours than it declares"):
        rgb_of(tiff_of_a_jpeg(jpeg, (64, 48), EIGHT, colours, WHOLE))


@pytest.mark.parametrize("size", [(72, 48), (64, 56), (72, 56)])
def test_a_jpeg_that_is_smaller_than_its_strip_is_damage(size: tuple[int, int]) -> None:
    with pytest.raises(DamagedImage):
        rgb_of(tiff_of_a_jpeg(OF_YCC, size, EIGHT, YCC, WHOLE))


@pytest.mark.parametrize("cut", [2, 8, 200, 600])
@pytest.mark.parametrize("behind", [b"", bytes(600)])
def test_a_jpeg_without_its_end_is_damage(cut: int, behind: bytes) -> None:
    with pytest.raises(DamagedImage):
        rgb_of(tiff_of_a_jpeg(OF_YCC[:-cut] + behind, (64, 48), EIGHT, YCC, WHOLE))


@pytest.mark.parametrize("values", [(1,), (3, 3), (0, 0), (1, 1, 1)])
def test_subsampling_that_there_is_not_is_damage(values: tuple[int, ...]) -> None:
    with pytest.raises(DamagedImage):
        rgb_of(tiff_of_a_jpeg(OF_YCC, (64, 48), EIGHT, YCC, (530, 3, values)))


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_alpha_behind_other_channels_is_named(extra: str) -> None:
    buffer = io.BytesIO()
    samples = np.zeros((70, 90, 5), np.uint8)
    tifffile.imwrite(buffer, samples, photometric="rgb", extrasamples=("unspecified", extra), metadata=None)
    with pytest.raises(Unsupported, match="alpha after other extra channels"):
        rgb_of(buffer.getvalue())
