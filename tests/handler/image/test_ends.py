"""One rule for every format: if all rows can be decoded there is an answer, however the file ends; else 400."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reliability import corpus
from reliability.corpus import chunk
from reliability.decoding import decode
from reliability.pictures import encoded, gradient
from tests.support.image_kinds import ADAM7
from tests.support.torchvision_pixels import reference_pixels
from vision.errors import DamagedImage, NotAnImage, RequestError

PIXELS = 10_000_000
REFUSED = ("tiff group4", "bmp rle8", "bmp rle4")
SEEDS = {name: file for name, file in corpus.seeds().items() if name not in REFUSED}
FLAT = Image.new("RGB", (320, 260), "white")  # missing pixels would look like existing ones
FLAT_BUT = FLAT.copy()
FLAT_BUT.paste(gradient(100, 20), (0, 0))

# The number of last bytes that no row needs.
ENDS: dict[str, tuple[Callable[[], bytes], int]] = {
    "JPEG": (lambda: encoded(gradient(), "JPEG"), 2),
    "JPEG, progressive": (lambda: encoded(gradient(), "JPEG", progressive=True), 2),
    "JPEG, restarts": (lambda: encoded(gradient(), "JPEG", restart_marker_blocks=5), 2),
    "JPEG, CMYK": (lambda: encoded(gradient().convert("CMYK"), "JPEG"), 2),
    "JPEG, grey": (lambda: encoded(gradient().convert("L"), "JPEG"), 2),
    "JPEG, decoded small": (lambda: encoded(gradient(2700, 2700), "JPEG"), 2),
    "JPEG, flat": (lambda: encoded(FLAT, "JPEG"), 2),
    "JPEG, flat, its own tables": (lambda: encoded(FLAT, "JPEG", optimize=True), 2),
    "PNG": (lambda: encoded(gradient()), 12 + 4 + 4),  # IEND, a check sum, zlib's own
    "GIF": (lambda: encoded(gradient(), "GIF"), 2),
    "WebP": (lambda: encoded(gradient(), "WEBP"), 0),
    "WebP, EXIF behind it": (lambda: encoded(gradient(), "WEBP", exif=b"Exif\0\0" + bytes(200)), 190),
    "BMP": (lambda: encoded(gradient(319, 260), "BMP"), 3),  # a row is padded to four bytes
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_that_no_row_needs_may_be_missing(name: str) -> None:
    make, most = ENDS[name]
    file = make()
    whole = decode(file, PIXELS)
    for cut in range(1, most + 1):
        assert (decode(file[:-cut], PIXELS) == whole).all(), cut


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("name", ["JPEG", "JPEG, progressive", "JPEG, restarts", "JPEG, CMYK", "JPEG, grey"])
def test_a_jpeg_may_have_garbage_for_its_end(name: str, cut: int) -> None:
    file = ENDS[name][0]()
    assert (decode(file[:-cut] + b"\0" * cut, PIXELS) == decode(file, PIXELS)).all()


@pytest.mark.parametrize("name", SEEDS)
def test_a_cut_file_gives_the_whole_picture_or_none(name: str) -> None:
    """At every tenth byte, and at each of the last forty."""
    file = SEEDS[name]
    whole = decode(file, PIXELS).astype(int)
    refused = 0
    for length in {*range(1, len(file), max(10, len(file) // 60)), *range(len(file) - 40, len(file))}:
        try:
            shown = decode(file[:length], PIXELS)
            assert np.abs(shown - whole).max() <= 1, length
        except RequestError as error:
            refused += 1
            assert isinstance(error, (DamagedImage, NotAnImage)), length
            if length > 1000:  # a shorter file may end within its header
                assert "truncated or damaged" in str(error), length
    assert refused


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}],
    ids=str,
)
@pytest.mark.parametrize("picture", ["gradient", "flat", "flat but its beginning"])
def test_no_part_of_a_jpeg_is_made_up(picture: str, options: dict[str, int]) -> None:
    """libjpeg fills missing pixels with grey or with the previous colour. A byte may be mere padding."""
    image = {"gradient": gradient(), "flat": FLAT, "flat but its beginning": FLAT_BUT}[picture]
    file = encoded(image, "JPEG", **options)
    whole = decode(file, PIXELS).astype(int)
    start = file.index(b"\xff\xda") + 14
    for length in range(start, len(file) - 3, max(1, (len(file) - start) // 150)):
        try:
            shown = decode(file[:length], PIXELS)
        except DamagedImage:
            continue
        assert np.abs(shown - whole).max() == 0, length


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.parametrize("size", [(320, 260), (333, 271), (2700, 2600)])
def test_an_end_that_was_put_behind_half_a_jpeg(size: tuple[int, int], options: dict[str, int]) -> None:
    """Like programs that repair a missing end: the other half is then grey."""
    file = encoded(gradient(*size), "JPEG", **options)
    for length in (len(file) // 3, len(file) // 2, len(file) * 9 // 10):
        with pytest.raises(DamagedImage):
            decode(file[:length] + b"\xff\xd9", PIXELS)


@pytest.mark.parametrize("filling", [b"\0", b" ", b"\xff", b"\r\n--boundary--\r\n", b"502 Bad Gateway\n"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_half_a_jpeg_that_is_filled_up(
    filling: bytes, options: dict[str, int], end: bytes, photographs: list[Path]
) -> None:
    """Like an unfinished download: entropy codes of the best quality take all of it for pixels."""
    for photograph in photographs:
        with Image.open(photograph) as opened:
            file = encoded(opened.convert("RGB"), "JPEG", quality=95, **options)
        half = file[: len(file) // 2]
        behind = filling * (len(half) // len(filling) if len(filling) == 1 else 1)
        with pytest.raises(DamagedImage):
            decode(half + behind + end, PIXELS)


def test_an_end_that_was_put_behind_some_scans() -> None:
    """In a progressive JPEG, which then has all rows, but none of them complete."""
    file = encoded(gradient(), "JPEG", progressive=True)
    for at in range(file.index(b"\xff\xda") + 2, len(file) - 2):
        if file[at : at + 2] == b"\xff\xda":
            with pytest.raises(DamagedImage):
                decode(file[:at] + b"\xff\xd9", PIXELS)


def test_what_a_scan_of_a_baseline_jpeg_says_of_coefficients_does_not_count() -> None:
    """Some encoders write zeros; libjpeg does not check."""
    file = encoded(gradient(), "JPEG")
    head = file.index(b"\0\x3f\0", file.index(b"\xff\xda"))
    assert (decode(file[:head] + bytes(3) + file[head + 3 :], PIXELS) == decode(file, PIXELS)).all()


@pytest.mark.parametrize("image", [FLAT, FLAT_BUT, FLAT.convert("L"), FLAT.convert("CMYK"), FLAT.resize((3, 3))])
@pytest.mark.parametrize("behind", [b"", b"\0" * 1000, b"\xff\xd8\xff"])
def test_a_flat_picture_is_none_that_breaks_off(image: Image.Image, behind: bytes) -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
        file = encoded(image, "JPEG", **options)
        assert np.abs(decode(file + behind, PIXELS).astype(int) - reference_pixels(file)).max() <= 1


@pytest.mark.parametrize("cut", [2, 3, 4, 6, 8])
def test_of_a_photograph_the_last_block_may_be_incomplete(cut: int, photographs: list[Path]) -> None:
    """Like browsers: a few bytes are less than a thousandth of the picture."""
    for photograph in photographs:
        file = photograph.read_bytes()
        assert file.endswith(b"\xff\xd9")
        assert np.abs(decode(file[:-cut], PIXELS).astype(int) - decode(file, PIXELS)).max() <= 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("picture", ["gradient", "black"])
def test_a_png_whose_data_end_at_the_end_of_a_row(picture: str, interlaced: bool) -> None:
    """Pillow takes that for the end of the picture, and leaves the rest black."""
    samples = np.asarray(gradient(90, 70)) * (picture == "gradient")
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [b"\0" + row.tobytes() for y, x, down, across in passes for row in samples[y::down, x::across]]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 70, 8, 2, 0, 0, interlaced))
    for missing in (0, 1, 2, 35, len(rows) - 1):
        pixels = chunk(b"IDAT", zlib.compress(b"".join(rows[: len(rows) - missing])))
        file = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
        if missing:
            with pytest.raises(DamagedImage):
                decode(file, PIXELS)
        else:
            expected = reference_pixels(encoded(Image.fromarray(samples))).astype(int)
            assert np.abs(decode(file, PIXELS) - expected).max() <= 1


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"quality": 95}], ids=str)
@pytest.mark.parametrize("animated", [False, True])
def test_no_part_of_a_webp_is_made_up(options: dict[str, int], animated: bool) -> None:
    for width in range(80, 100):
        image = gradient(width, 70)
        file = encoded(image, "WEBP", **options)
        if animated:
            later = Image.new("RGB", image.size)
            file = encoded(image, "WEBP", save_all=True, append_images=[later], **options)
            file = file[: file.rindex(b"ANMF")]
        whole = decode(file, PIXELS)
        for cut in (1, 2, 3, 4, 8, 100):
            try:
                assert (decode(file[:-cut], PIXELS) == whole).all(), (width, cut)
            except DamagedImage:
                continue


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    file = encoded(gradient(), "JPEG", progressive=True)
    for at in range(len(file) - 2):
        if file[at : at + 2] == b"\xff\xda":
            with pytest.raises(DamagedImage):
                decode(file[:at], PIXELS)


def test_a_separate_channel_that_is_missing() -> None:
    """Scans of one channel each: complete ones, but not all of them."""
    jpeg = encoded(Image.new("L", (64, 64), 77), "JPEG")
    frame, scan = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    colour = b"\xff\xc0\0\x11\x08\0\x40\0\x40\x03" + b"\1\x11\0\2\x11\0\3\x11\0"
    head = jpeg[:frame] + colour + jpeg[frame + 13 : scan]
    scans = [
        jpeg[scan:-2].replace(b"\xff\xda\0\x08\1\1", b"\xff\xda\0\x08\1" + bytes([number])) for number in (1, 2, 3)
    ]
    whole = decode(head + b"".join(scans) + b"\xff\xd9", PIXELS)
    assert (decode(head + b"".join(scans), PIXELS) == whole).all()
    with pytest.raises(DamagedImage):
        decode(head + b"".join(scans[:2]), PIXELS)
