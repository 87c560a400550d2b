"""Image bytes → RGB pixels, as the transforms of torchvision's weights would see them.

The reference is torchvision/transforms/_presets.py, `ImageClassification`: resize the short side (bilinear or bicubic,
with antialiasing), then cut out the central square. Here only that square is computed, from the part of the original
that it shows.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from vision.errors import DamagedImage, NotAnImage, RequestError, TooLarge, Unsupported
from vision.image import unended
from vision.image.formats import FORMATS
from vision.image.guards import strip_metadata
from vision.image.guards import tiff as tiff_guard
from vision.image.guards.exif import orientation
from vision.image.guards.png import has_all_rows
from vision.image.known import known_format
from vision.image.preprocessing import Preprocessing
from vision.image.tiff import TiffPicture, open_tiff

# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. The short side must keep this many times the pixels that it is
# resized to: antialiasing then averages over five, and no probability moves by more than 0.006 (with three: 0.013).
# The same holds for bicubic. Over 20 large pictures, pixels move by 0.14 of 255 levels on average, and probabilities by
# up to 0.008 (with three: 0.24, 0.016; with two: 0.40, 0.019); with bilinear by 0.14 and up to 0.005 (0.25, 0.024).
PIXELS_TO_AVERAGE = 5

# Pillow's filter for each interpolation, and its reach, in pixels of the picture or of the crop, whichever are larger.
FILTERS = {"bilinear": (Image.Resampling.BILINEAR, 1.0), "bicubic": (Image.Resampling.BICUBIC, 2.0)}

# Pillow resizes rows first and then columns, but columns first if a picture is more than this many times as high as
# wide and shrinks in height. Bicubic values overshoot and are clipped in between, so the order shows in the pixels.
TALL = 100

ORDINARY_SCANS = 20  # a progressive JPEG has ten, or eighteen in CMYK; more scans count as more pixels
STRIP = 4_000_000  # pixels converted to RGB at a time; each strip's memory is freed before the next

RGB_UPPER, RGB_LOWER = "RGB;16B", "RGB;16L"  # Pillow's names for 16 bits, of which it keeps eight

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
LAST_ROW_FIRST, LAST_COLUMN_FIRST = (3, 4, 7, 8), (2, 3, 6, 7)  # in the upright picture

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

_stderr_lock = threading.Lock()


@dataclass
class OpenedImage:
    """An image whose header has been read. Decoding it releases it and its memory, so it can be decoded only once.

    place: how an error names it.
    pixels: how many the decoder will process; more than width × height if the file asks for more.
    jpeg: the file up to its end marker; lacks_end: whether that marker is missing. See vision/image/unended.py.
    png: as its guard leaves it. of_sixteen_bits: the transparent colour of a 16-bit RGB image.
    """

    image: Image.Image | TiffPicture | None
    place: str
    pixels: int
    exif: bytes = b""
    xmp: bytes = b""
    jpeg: bytes = b""
    lacks_end: bool = False
    png: bytes = b""
    of_sixteen_bits: tuple[int, int, int] | None = None


def open_pixels(pixels: np.ndarray, place: str, max_pixels: int) -> OpenedImage:
    """RGB pixels, uint8 of shape (height, width, 3) → the same as for an image file. Raises TooLarge (413)."""
    height, width, _ = pixels.shape
    if height * width > max_pixels:
        raise TooLarge(place, max_pixels, "pixels")
    return OpenedImage(Image.fromarray(pixels), place, height * width)


def open_image(image_bytes: bytes, place: str, max_pixels: int) -> OpenedImage:
    """Image bytes → an image that is small enough to decode.

    Raises RequestError: NotAnImage or Unsupported (400), or TooLarge (413) before anything is decoded.
    """
    _set_up_pillow()
    if known := known_format(image_bytes):
        raise Unsupported(place, *known)
    if image_bytes.startswith(tiff_guard.STARTS):
        tiff = open_tiff(image_bytes, place, max_pixels)
        return OpenedImage(tiff, place, tiff.pixels, image_bytes, tiff.xmp)
    stripped = strip_metadata(image_bytes, place, max_pixels)
    file, jpeg, lacks_end = stripped.image, b"", False
    if stripped.format == "JPEG":
        jpeg, lacks_end = file[: stripped.end], not file.startswith(unended.END, stripped.end)
        file = unended.ended(jpeg) if lacks_end else file
    try:
        image = Image.open(io.BytesIO(file), formats=tuple(FORMATS))  # reads the header only
        pixels = _pixels_to_decode(image, stripped.scans)
    except MemoryError:
        raise
    except Exception:  # UnidentifiedImageError, or whatever a decoder raises for a bad header
        if stripped.format:
            raise DamagedImage(place, stripped.format) from None
        raise NotAnImage(place) from None
    if pixels > max_pixels:
        raise TooLarge(place, max_pixels, "pixels")
    if jpeg and not unended.has_all_scans(jpeg):  # even if an end marker was appended
        raise DamagedImage(place, "JPEG")
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):  # in Python: slow and large
        raise Unsupported(place, "a run-length encoded BMP")
    png = file if stripped.format == "PNG" else b""
    colour = image.info.pop("transparency") if _has_lost_digits(image) else None
    return OpenedImage(image, place, pixels, stripped.exif, stripped.xmp, jpeg, lacks_end, png, colour)


def decode(opened: OpenedImage, preprocessing: Preprocessing) -> np.ndarray:
    """An opened image → the RGB pixels of its centre crop, uint8 of shape (crop, crop, 3).

    Raises RequestError: DamagedImage (400).
    """
    image, opened.image = opened.image, None
    assert image is not None, "an image can be decoded only once"
    try:
        if isinstance(image, TiffPicture):
            with _silent_libtiff():
                return _centre_crop(image.load(), opened, preprocessing)
        return _centre_crop(image, opened, preprocessing)
    except (MemoryError, RequestError):
        raise
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, …
        if isinstance(image, Image.Image) and image.format is None:  # raw pixels: no decoder was involved
            raise
        name = "TIFF" if isinstance(image, TiffPicture) else FORMATS[str(image.format)]
        raise DamagedImage(opened.place, name) from None


@cache
def _set_up_pillow() -> None:
    """Runs once. Silences Pillow's warnings, which may repeat a client's text.

    Pillow's own pixel limit only looks at width and height; ours, applied right after the header, looks at more.
    """
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """libtiff is the only decoder that writes to the process's stderr. Silences it, one image at a time."""
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
    if image.format == "JPEG":  # each scan may cover the whole picture
        return pixels * max(ORDINARY_SCANS, scans) // ORDINARY_SCANS
    return pixels * 2 if _has_lost_digits(image) else pixels


def _has_lost_digits(image: Image.Image) -> bool:
    """Whether Pillow will compare a PNG's transparent colour with only the upper eight of its 16 bits."""
    return "transparency" in image.info and any(tile.args == RGB_UPPER for tile in getattr(image, "tile", ()))


def _centre_crop(image: Image.Image, opened: OpenedImage, preprocessing: Preprocessing) -> np.ndarray:
    turned, whole = _orientation(opened), image.size
    reduction = _reduce(image, preprocessing.resize)
    image.load()
    _check_whole(image, opened, preprocessing)
    if opened.of_sixteen_bits:
        _whiten(image, opened.png, opened.of_sixteen_bits)
    (width, height), (columns, rows) = _upright(whole, turned), _upright(image.size, turned)
    left, top, right, bottom = (side / reduction for side in _crop_box(width, height, preprocessing))
    if turned in LAST_COLUMN_FIRST:  # a decoder that reduces may have padded the last column
        left, right = (side + (columns - width / reduction) for side in (left, right))
    if turned in LAST_ROW_FIRST:
        top, bottom = (side + (rows - height / reduction) for side in (top, bottom))
    box = (left, top, right, bottom)
    if preprocessing.interpolation == "bicubic" and height > TALL * width:
        return _tall_crop(image, box, turned, preprocessing)
    if turned == 1 and _is_rgb(image):
        resampling, _ = FILTERS[preprocessing.interpolation]
        return np.asarray(image.resize((preprocessing.crop, preprocessing.crop), resampling, box=box))
    return _crop_of_strips(image, box, turned, preprocessing)


def _crop_of_strips(image: Image.Image, box: Box, turned: int, preprocessing: Preprocessing) -> np.ndarray:
    """box: in the upright picture.

    Like Pillow, resizes rows first and then columns, so it does not matter where the strips begin.
    """
    crop, (resampling, _) = preprocessing.crop, FILTERS[preprocessing.interpolation]
    left, top, right, bottom = box
    first, last = _rows_that_count(image, box, turned, preprocessing)
    narrow = Image.new("RGB", (crop, last - first))
    step = max(1, STRIP // _upright(image.size, turned)[0])
    for start in range(first, last, step):
        strip = _rgb_rows(image, start, min(start + step, last), turned)
        strip = strip.resize((crop, strip.height), resampling, box=(left, 0, right, strip.height))
        narrow.paste(strip, (0, start - first))
    return np.asarray(narrow.resize((crop, crop), resampling, box=(0, top - first, crop, bottom - first)))


def _tall_crop(image: Image.Image, box: Box, turned: int, preprocessing: Preprocessing) -> np.ndarray:
    """box: in the upright picture. In such a tall picture, the box and the rows around it that count are small."""
    crop, (resampling, _) = preprocessing.crop, FILTERS[preprocessing.interpolation]
    left, top, right, bottom = box
    first, last = _rows_that_count(image, box, turned, preprocessing)
    shown = _rgb_rows(image, first, last, turned)
    top, bottom = top - first, bottom - first
    if shown.width > preprocessing.resize:  # the reference shrinks the picture's height
        shown = shown.resize((shown.width, crop), resampling, box=(0, top, shown.width, bottom))
        top, bottom = 0, crop
    return np.asarray(shown.resize((crop, crop), resampling, box=(left, top, right, bottom)))


def _rows_that_count(image: Image.Image, box: Box, turned: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """The first row of the upright picture that affects the box, and the row after the last one."""
    _, top, _, bottom = box
    _, support = FILTERS[preprocessing.interpolation]
    reach = support * max(1.0, (bottom - top) / preprocessing.crop)  # above and below a pixel's own rows
    return max(0, int(top - reach)), min(_upright(image.size, turned)[1], int(bottom + reach) + 2)


def _check_whole(image: Image.Image, opened: OpenedImage, preprocessing: Preprocessing) -> None:
    """Raises ValueError if Pillow has filled in missing pixels."""
    if opened.jpeg and unended.may_lack_pixels(opened.jpeg, image, opened.lacks_end):
        noisy_file = unended.ended_with_noise(opened.jpeg, image, opened.lacks_end)
        noisy = Image.open(io.BytesIO(noisy_file), formats=("JPEG",))
        _reduce(noisy, preprocessing.resize)
        if unended.digest(noisy) != unended.digest(image):
            raise ValueError("pixels are missing")
    if opened.png and _may_lack_rows(image) and not has_all_rows(opened.png):
        raise ValueError("rows are missing")


def _may_lack_rows(png: Image.Image) -> bool:
    """Whether the last row looks like Pillow's filling, zeros. (An interlaced image may lack pixels anywhere.)"""
    last = png.crop((0, png.height - 1, png.width, png.height))
    return bool(png.info.get("interlace")) or not any(last.tobytes())


def _upright(size: tuple[int, int], turned: int) -> tuple[int, int]:
    """Width and height as stored in the file → as viewed."""
    return size[::-1] if turned >= 5 else size


def _rgb_rows(image: Image.Image, start: int, stop: int, turned: int) -> Image.Image:
    """Rows of the picture as viewed, from an image as stored in the file."""
    frame = image.dispose_extent if isinstance(image, GifImageFile) else None
    return _on_white(_to_rgb(_upright_rows(image, start, stop, turned)), start, frame)


def _upright_rows(image: Image.Image, start: int, stop: int, turned: int) -> Image.Image:
    sideways = turned >= 5
    length = image.width if sideways else image.height
    if turned in LAST_ROW_FIRST:
        start, stop = length - stop, length - start
    strip = image.crop((start, 0, stop, image.height) if sideways else (0, start, image.width, stop))
    strip.info = image.info  # its transparent colour
    return strip.transpose(UPRIGHT[turned]) if turned in UPRIGHT else strip


def _reduce(image: Image.Image, resize: int) -> int:
    """Asks the JPEG decoder for a smaller image if that is enough; returns the divisor (1, 2, 4 or 8)."""
    width, height = image.size
    for divisor in (8, 4, 2):
        if min(width, height) >= divisor * PIXELS_TO_AVERAGE * resize:
            drafted = image.draft(None, (width // divisor, height // divisor))
            return divisor if drafted else 1
    return 1


def _orientation(opened: OpenedImage) -> int:
    """1 to 8. Does not use Pillow's getexif, which reads everything that EXIF points to."""
    found = orientation(opened.exif)
    if found is None and (said := XMP_ORIENTATION.search(opened.xmp)):
        found = int(said[1])
    return found if found in UPRIGHT else 1


def _is_rgb(image: Image.Image) -> bool:
    return image.mode == "RGB" and "transparency" not in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_rgb(image):
        return image
    if image.mode == "I;16":  # a grey PNG: keep the upper eight bits
        grey = np.asarray(image)
        shown = (grey >> 8).astype(np.uint8)
        if "transparency" in image.info:
            shown[grey == image.info["transparency"]] = 255
        return Image.fromarray(shown).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _whiten(image: Image.Image, png: bytes, colour: tuple[int, int, int]) -> None:
    """Makes those pixels of a PNG white that match the colour in all 16 bits. Pillow reads the upper eight bits; with
    the other byte order, it returns the lower eight.
    """
    lower = Image.open(io.BytesIO(png), formats=("PNG",))
    lower.tile = [tile._replace(args=RGB_LOWER) for tile in lower.tile]
    lower.load()
    step = max(1, STRIP // image.width)
    for start in range(0, image.height, step):
        box = (0, start, image.width, min(start + step, image.height))
        bits = np.asarray(image.crop(box)).astype(np.uint16) << 8 | np.asarray(lower.crop(box))
        image.paste("white", box, Image.fromarray((bits == colour).all(axis=2)))


def _on_white(strip: Image.Image, start: int, frame: tuple[int, int, int, int] | None) -> Image.Image:
    """Makes the screen around a GIF's first picture white: the picture may be smaller.

    start: the strip's first row on the screen.
    """
    if frame is not None:
        left, top, right, bottom = frame[0], frame[1] - start, frame[2], frame[3] - start
        for box in (
            (0, 0, strip.width, top),
            (0, bottom, strip.width, strip.height),
            (0, 0, left, strip.height),
            (right, 0, strip.width, strip.height),
        ):
            if box[0] < box[2] and box[1] < box[3]:
                strip.paste("white", (max(0, box[0]), max(0, box[1]), box[2], box[3]))
    return strip


def _crop_box(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """The part of an upright width×height image that torchvision's resize and centre crop show, in its pixels.

    Rounds as the reference does: `_compute_resized_output_size` truncates the long side, `center_crop` rounds half
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
