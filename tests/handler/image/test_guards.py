"""Small files that ask for gigabytes or seconds: each is refused before a decoder sees it, or costs little.

Each runs in a process of its own with bounded memory and processor time: undefended, some take the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reliability import bombs
from reliability.decoding import PREPROCESSING, decode
from reliability.pictures import encoded, gradient
from vision.errors import TooLarge
from vision.image import decoder as image_decoder

VALUES = "413 body: more than 200000 values in a tag"
FEW_VALUES = "413 body: more than 32 values in a tag"
SEGMENTS = "413 body: more than 2000 segments"
NO_IMAGE = "400 body: not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"
RUNS = "400 body: a run-length encoded BMP is not supported"
CHUNKS = "413 body: more than 20000 chunks"
PIXELS = "413 body: more than 50000000 pixels"
COMPRESSION = "400 body: a TIFF with a compression other than LZW, deflate, PackBits or JPEG is not supported"

OUTCOMES = {
    "png exif": "pixels",  # its orientation is not read
    "webp exif": "pixels",
    "webp alphas": "400 body: the WebP image is truncated or damaged",
    "webp alphas in a frame": "400 body: the WebP image is truncated or damaged",
    "png text exif": "pixels",
    "jpeg exif": "pixels",
    "jpeg exif in parts": "pixels",
    "jpeg multi-picture": "pixels",
    "jpeg segments": SEGMENTS,
    "jpeg scans": PIXELS,
    "png chunks": CHUNKS,
    "png texts": CHUNKS,
    "png profiles": "pixels",  # nobody unpacks them
    "png text bomb": "pixels",
    "png pixels bomb": PIXELS,
    "tiff tags": FEW_VALUES,
    "bigtiff tags": FEW_VALUES,
    "tiff strips": VALUES,
    "tiff fax": COMPRESSION,
    "tiff fax 4": COMPRESSION,
    "tiff loop": NO_IMAGE,
    "webp canvas": PIXELS,
    "webp frames": "pixels",
    "gif frames": "pixels",
    "gif comments": CHUNKS,
    "gif empty comments": CHUNKS,
    "gif one comment": CHUNKS,
    "gif a few comments": "pixels",
    "gif junk": "413 body: more than 65536 bytes between chunks",
    "bmp runs": RUNS,
    "bmp ends of lines": RUNS,
    "bmp deltas": RUNS,
    "bmp runs of four bits": RUNS,
    "jpeg exif after the end": NO_IMAGE,
    "jpeg exif, begun twice": "pixels",
    "png exif, begun twice": "pixels",
    "png exif, begun a million times": "pixels",
    "webp exif, begun twice": "pixels",
    "jpeg segments after the end": NO_IMAGE,
    "jpeg hidden segments": NO_IMAGE,
    "jpeg padding": "413 body: more than 65536 bytes between segments",
    "jpeg padding without an end": NO_IMAGE,
    "jpeg padding in a scan": "400 body: the JPEG image is truncated or damaged",
    "jpeg junk": "413 body: more than 65536 bytes between segments",
    "jpeg restarts": SEGMENTS,
    "jpeg hidden scans": PIXELS,
    "jpeg markers in a scan": SEGMENTS,
    "tiff of another byte order": "400 body: the TIFF image is truncated or damaged",
    "tiff hidden fax": COMPRESSION,
    "tiff exif": "pixels",
    "tiff gps": "pixels",
    "tiff directories": "pixels",
    "tiff reversed bits": "400 body: a TIFF with its bits in reverse order is not supported",
    "tiff tiles": PIXELS,
    "tiff rationals": FEW_VALUES,
    "tiff jpegs": "400 body: the TIFF image is truncated or damaged",
    "tiff too many jpegs": "413 body: more than 20000 JPEGs in a TIFF",
    "tiff of one row": "413 body: more than 4000000 samples in a row",
    "tiff of many channels": "pixels",
    "tiff long strips": "pixels",
    "png packed exif": "pixels",
    "svg comments": "400 body: XML is not supported: send the image itself; this may be an error message",
    "jpeg without an end": "400 body: the JPEG image is truncated or damaged",
}


def test_every_bomb_has_its_outcome() -> None:
    assert OUTCOMES.keys() == bombs.BOMBS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTCOMES)
def test_a_bomb_does_no_harm(name: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(bombs.__file__)), name]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, OUTCOMES[name], "")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_do_not_show(mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = gradient(300, 410).convert("L").convert("LA") if mode == "LA" else gradient(300, 410).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = encoded(picture, "JPEG" if mode == "CMYK" else "PNG", exif=exif)
    whole = decode(image, 1_000_000)
    monkeypatch.setattr(image_decoder, "STRIP", 2000)
    strips = decode(image, 1_000_000)
    assert (np.asarray(strips) == whole).all()


@pytest.mark.parametrize(("scans", "refused"), [(0, False), (17, False), (18, True)])
def test_twenty_scans_are_free_at_the_limit_of_pixels(scans: int, refused: bool) -> None:
    """49 megapixels leave room for two hundredths more; the picture already has three scans."""
    image = bombs.repeated_scans(scans)
    if refused:
        with pytest.raises(TooLarge):
            image_decoder.open_image(image, "body", 49_000_000)
    else:
        image_decoder.open_image(image, "body", 49_000_000)


def test_an_image_is_let_go_when_it_is_decoded() -> None:
    opened = image_decoder.open_image(encoded(gradient()), "body", 1_000_000)
    image_decoder.decode(opened, PREPROCESSING)
    assert opened.image is None
