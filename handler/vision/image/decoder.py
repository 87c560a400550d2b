"""Image bytes → RGB pixels, as the transforms of torchvision's weights would see them.

The reference is torchvision/transforms/_presets.py, `ImageClassification`: the short side is resized, bilinear with
antialiasing, then the square in the centre is cut out. Here only that is computed, from the box of the original that it
shows.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vision.errors import DamagedImage, NotAnImage, TooLarge, Unsupported
from vision.image.formats import FORMATS
from vision.image.guards import strip_metadata
from vision.image.guards.exif import orientation
from vision.image.preprocessing import Preprocessing

# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. The short side must keep so many times the pixels that it is
# resized to: the antialiasing then averages over five, and no probability moves by more than 0.006 (with three: 0.013).
PIXELS_TO_AVERAGE = 5

ORDINARY_SCANS = 20  # a progressive JPEG has ten, of CMYK eighteen: more of them count as more pixels
STRIP = 4_000_000  # pixels that are made RGB together: what is not needed any more is free before the next
WIDTH, LENGTH, SAMPLES, PLANAR, TILE_WIDTH, TILE_LENGTH = 256, 257, 277, 284, 322, 323  # TIFF tags

XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_stderr_lock = threading.Lock()


@dataclass
class OpenedImage:
    """An image of which the header has been read. It is decoded once: then it is let go, and its memory with it.

    place: how an error names it.
    pixels: how many the decoder will go over; more than width × height where a file asks for more.
    """

    image: Image.Image | None
    place: str
    pixels: int
    exif: bytes = b""


def open_image(image_bytes: bytes, place: str, max_pixels: int) -> OpenedImage:
    """Image bytes → an image that is small enough to be decoded.

    Raises RequestError: NotAnImage or Unsupported (400), or TooLarge (413) before anything is decoded.
    """
    _quieten_pillow()
    stripped = strip_metadata(image_bytes, place, max_pixels)
    try:
        image = Image.open(io.BytesIO(stripped.image), formats=tuple(FORMATS))  # reads the header only
        pixels = _pixels_to_decode(image, stripped.scans)
    except Image.DecompressionBombError:
        raise TooLarge(place, max_pixels, "pixels") from None
    except MemoryError:
        raise
    except Exception:  # UnidentifiedImageError, or a decoder's own way of saying that the header makes no sense
        raise NotAnImage(place) from None
    if pixels > max_pixels:
        raise TooLarge(place, max_pixels, "pixels")
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):  # by Python, for seconds and gigabytes
        raise Unsupported(place, "a run-length encoded BMP")
    return OpenedImage(image, place, pixels, stripped.exif)


def decode(opened: OpenedImage, preprocessing: Preprocessing) -> np.ndarray:
    """An opened image → the RGB pixels of its centre crop, uint8 of shape (crop, crop, 3).

    Raises RequestError: DamagedImage (400).
    """
    image, opened.image = opened.image, None
    assert image is not None, "an image is decoded once"
    try:
        with _silent_libtiff() if image.format == "TIFF" else nullcontext():
            return _centre_crop(image, opened.exif, preprocessing)
    except MemoryError:
        raise
    except Exception:  # OSError, SyntaxError, ValueError, struct.error, EOFError, …: Pillow's decoders raise them all
        raise DamagedImage(opened.place, str(image.format)) from None


@cache
def _quieten_pillow() -> None:
    """Once: what Pillow finds odd about an image is nobody's concern, and its words may be the client's."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """libtiff, and nothing else, writes what it finds odd to the process's stderr. One image at a time."""
    with _stderr_lock:
        kept = os.dup(2)
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _pixels_to_decode(image: Image.Image, scans: int) -> int:
    pixels = image.width * image.height
    if image.format == "JPEG":  # each scan may go over the whole picture
        return pixels * max(ORDINARY_SCANS, scans) // ORDINARY_SCANS
    return max(pixels, _pixels_of_tiles(image.tag_v2)) if image.format == "TIFF" else pixels  # type: ignore[attr-defined]


def _pixels_of_tiles(tags: Any) -> int:
    """Of a TIFF, whose tiles may be far larger than what the picture shows of them."""
    width, length = int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))
    if not width or not length:
        return 0
    planes = int(tags.get(SAMPLES, 1)) if tags.get(PLANAR) == 2 else 1
    return -(-int(tags[WIDTH]) // width) * -(-int(tags[LENGTH]) // length) * width * length * planes


def _centre_crop(image: Image.Image, exif: bytes, preprocessing: Preprocessing) -> np.ndarray:
    width, height = image.size
    crop = preprocessing.crop
    reduction = _reduce(image, preprocessing.resize)
    image.load()
    if image.format == "TIFF":  # which Pillow turns when it loads it
        width, height = image.size
    turned = _orientation(image, exif)
    if turned >= 5:
        width, height = height, width
    left, top, right, bottom = (side / reduction for side in _crop_box(width, height, preprocessing))
    if turned == 1 and _is_rgb(image):
        return np.asarray(image.resize((crop, crop), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
    rows = image.width if turned >= 5 else image.height  # of the upright picture
    columns = image.height if turned >= 5 else image.width
    reach = max(1.0, (bottom - top) / crop)  # rows above and below a pixel's own that count for it
    first, last = max(0, int(top - reach)), min(rows, int(bottom + reach) + 2)
    # As Pillow does it, rows are resized first and then columns: so it does not matter where strips of rows begin.
    narrow = Image.new("RGB", (crop, last - first))
    step = max(1, STRIP // columns)
    for start in range(first, last, step):
        strip = _upright_rows(image, start, min(start + step, last), turned)
        box = (left, 0, right, strip.height)
        strip = _to_rgb(strip).resize((crop, strip.height), Image.Resampling.BILINEAR, box=box)
        narrow.paste(strip, (0, start - first))
    shown = (0, top - first, crop, bottom - first)
    return np.asarray(narrow.resize((crop, crop), Image.Resampling.BILINEAR, box=shown))


def _upright_rows(image: Image.Image, start: int, stop: int, turned: int) -> Image.Image:
    """Rows of the picture as it is looked at, from an image as it lies in the file."""
    sideways = turned >= 5
    length = image.width if sideways else image.height
    if turned in (3, 4, 7, 8):  # the last row or column comes first
        start, stop = length - stop, length - start
    strip = image.crop((start, 0, stop, image.height) if sideways else (0, start, image.width, stop))
    strip.info = image.info  # its transparent colour
    return strip.transpose(UPRIGHT[turned]) if turned in UPRIGHT else strip


def _reduce(image: Image.Image, resize: int) -> int:
    """Asks the JPEG decoder for a smaller image where that is enough; returns the divisor (1, 2, 4 or 8)."""
    width, height = image.size
    for divisor in (8, 4, 2):
        if min(width, height) >= divisor * PIXELS_TO_AVERAGE * resize:
            drafted = image.draft(None, (width // divisor, height // divisor))
            return divisor if drafted else 1
    return 1


def _orientation(image: Image.Image, exif: bytes) -> int:
    """Not by Pillow's getexif, which reads everything that EXIF points at. Of a TIFF, Pillow has turned it already."""
    exif = exif or _bytes_of(image, "exif")
    if not exif and "Raw profile type exif" in image.info:  # ImageMagick's, in hexadecimal digits
        with suppress(ValueError):
            exif = bytes.fromhex("".join(str(image.info["Raw profile type exif"]).split("\n")[3:]))
    found = orientation(exif)
    if found is None and (said := XMP_ORIENTATION.search(_bytes_of(image, "xmp"))):
        found = int(said[1])
    return found if found in UPRIGHT else 1


def _bytes_of(image: Image.Image, name: str) -> bytes:
    """What Pillow has found under a name. A text that a PNG calls so is no metadata."""
    found = image.info.get(name)
    return found if isinstance(found, bytes) else b""


def _is_rgb(image: Image.Image) -> bool:
    return image.mode == "RGB" and "transparency" not in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_rgb(image):
        return image
    if image.mode.startswith("I"):  # 16 bits (some decoders call it 32): the upper eight
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The box of an upright width×height image that torchvision's resize and centre crop show, in its pixels.

    Repeats the reference's rounding: `_compute_resized_output_size` truncates the long side, `center_crop` rounds half
    to even.
    """
    resize, crop = preprocessing.resize, preprocessing.crop
    if width <= height:
        resized_width, resized_height = resize, int(resize * height / width)
    else:
        resized_width, resized_height = int(resize * width / height), resize
    left = round((resized_width - crop) / 2.0)
    top = round((resized_height - crop) / 2.0)
    x, y = width / resized_width, height / resized_height
    return left * x, top * y, (left + crop) * x, (top + crop) * y
