"""Image bytes → RGB pixels, as the transforms of torchvision's `AlexNet_Weights.IMAGENET1K_V1` would see them.

The reference is torchvision/transforms/_presets.py, `ImageClassification(crop_size=224, resize_size=256)`: the short
side to 256, bilinear with antialiasing, then the centre 224×224. Here only the crop is computed, from the box of the
original that it shows.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from errors import DamagedImage, NotAnImage, TooLarge
from image_header import EXIF, MAX_METADATA, check_header, count_scans, metadata_bytes

CROP = 224  # pixels, torchvision's crop_size
RESIZE = 256  # pixels of the short side, torchvision's resize_size
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. The short side must keep this many pixels: the antialiasing of
# the second step then averages over five of them, and no probability moves by more than 0.006 (with three: 0.013).
SHORT_SIDE_AFTER_REDUCTION = 5 * RESIZE

ORDINARY_SCANS = 20  # a progressive JPEG has ten, of CMYK eighteen: more of them count as more pixels
RLE_BYTE = 10  # pixels that take as long as a byte of a run-length encoded BMP, which Python decodes
STRIP = 4_000_000  # pixels that are made RGB together: what is not needed any more is free before the next
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF tags

ORIENTATION = 0x0112  # the EXIF tag
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


def open_image(image_bytes: bytes, place: str, max_pixels: int) -> OpenedImage:
    """Image bytes → an image that is small enough to be decoded.

    Raises RequestError: NotAnImage or Unsupported (400), or TooLarge (413) before anything is decoded.
    """
    _quieten_pillow()
    check_header(image_bytes, place, max_pixels)
    try:
        image = Image.open(io.BytesIO(image_bytes), formats=FORMATS)  # reads the header only
        pixels = _pixels_to_decode(image, image_bytes)
    except Image.DecompressionBombError:
        raise TooLarge(place, max_pixels, "pixels") from None
    except MemoryError:
        raise
    except Exception:  # UnidentifiedImageError, or a decoder's own way of saying that the header makes no sense
        raise NotAnImage(place) from None
    if pixels > max_pixels:
        raise TooLarge(place, max_pixels, "pixels")
    return OpenedImage(image, place, pixels)


def decode(opened: OpenedImage) -> np.ndarray:
    """An opened image → the RGB pixels of its centre crop, uint8 of shape (224, 224, 3).

    Raises RequestError: DamagedImage (400).
    """
    image, opened.image = opened.image, None
    assert image is not None, "an image is decoded once"
    try:
        with _silent_libtiff() if image.format == "TIFF" else nullcontext():
            return _centre_crop(image)
    except MemoryError:
        raise
    except Exception:  # OSError, SyntaxError, ValueError, struct.error, EOFError, …: Pillow's decoders raise them all
        image_format = "JPEG" if image.format == "MPO" else str(image.format)
        raise DamagedImage(opened.place, image_format) from None


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


def _pixels_to_decode(image: Image.Image, image_bytes: bytes) -> int:
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):  # each scan may go over the whole picture
        return pixels * max(ORDINARY_SCANS, count_scans(image_bytes)) // ORDINARY_SCANS
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):
        return max(pixels, RLE_BYTE * len(image_bytes))
    if image.format == "TIFF":  # a tile may be larger than the picture
        tags = image.tag_v2  # type: ignore[attr-defined]
        return max(pixels, int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0)))
    return pixels


def _centre_crop(image: Image.Image) -> np.ndarray:
    width, height = image.size
    reduction = _reduce(image)
    image.load()
    orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    left, top, right, bottom = (side / reduction for side in _crop_box(width, height))
    if orientation == 1 and _is_rgb(image):
        return np.asarray(image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
    rows = image.width if orientation >= 5 else image.height  # of the upright picture
    columns = image.height if orientation >= 5 else image.width
    reach = max(1.0, (bottom - top) / CROP)  # rows above and below a pixel's own that count for it
    first, last = max(0, int(top - reach)), min(rows, int(bottom + reach) + 2)
    # As Pillow does it, rows are resized first and then columns: so it does not matter where strips of rows begin.
    narrow = Image.new("RGB", (CROP, last - first))
    step = max(1, STRIP // columns)
    for start in range(first, last, step):
        strip = _upright_rows(image, start, min(start + step, last), orientation)
        box = (left, 0, right, strip.height)
        narrow.paste(
            _to_rgb(strip).resize((CROP, strip.height), Image.Resampling.BILINEAR, box=box), (0, start - first)
        )
    return np.asarray(
        narrow.resize((CROP, CROP), Image.Resampling.BILINEAR, box=(0, top - first, CROP, bottom - first))
    )


def _upright_rows(image: Image.Image, start: int, stop: int, orientation: int) -> Image.Image:
    """Rows of the picture as it is looked at, from an image as it lies in the file."""
    sideways = orientation >= 5
    length = image.width if sideways else image.height
    if orientation in (3, 4, 7, 8):  # the last row or column comes first
        start, stop = length - stop, length - start
    strip = image.crop((start, 0, stop, image.height) if sideways else (0, start, image.width, stop))
    strip.info = image.info  # its transparent colour
    return strip.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else strip


def _reduce(image: Image.Image) -> int:
    """Asks the JPEG decoder for a smaller image where that is enough; returns the divisor (1, 2, 4 or 8)."""
    width, height = image.size
    for divisor in (8, 4, 2):
        if min(width, height) >= divisor * SHORT_SIDE_AFTER_REDUCTION:
            drafted = image.draft(None, (width // divisor, height // divisor))
            return divisor if drafted else 1
    return 1


def _orientation(image: Image.Image) -> int:
    try:
        if "Raw profile type exif" in image.info and "exif" not in image.info:  # ImageMagick's, in hexadecimal digits
            lines = image.info["Raw profile type exif"].split("\n")
            image.info["exif"] = bytes.fromhex("".join(lines[3:]))
        exif = image.info.get("exif", b"")
        if metadata_bytes(exif[6:] if exif.startswith(EXIF) else exif) > MAX_METADATA:
            return 1
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF: every viewer shows such a picture as it lies
        return 1
    return orientation if orientation in UPRIGHT else 1


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


def _crop_box(width: int, height: int) -> tuple[float, float, float, float]:
    """The box of an upright width×height image that torchvision's resize and centre crop show, in its pixels.

    Repeats the reference's rounding: `_compute_resized_output_size` truncates the long side, `center_crop` rounds half
    to even.
    """
    if width <= height:
        resized_width, resized_height = RESIZE, int(RESIZE * height / width)
    else:
        resized_width, resized_height = int(RESIZE * width / height), RESIZE
    left = round((resized_width - CROP) / 2.0)
    top = round((resized_height - CROP) / 2.0)
    x, y = width / resized_width, height / resized_height
    return left * x, top * y, (left + CROP) * x, (top + CROP) * y
