"""Image bytes → RGB pixels, as the transforms of torchvision's `AlexNet_Weights.IMAGENET1K_V1` would see them.

The reference is torchvision/transforms/_presets.py, `ImageClassification(crop_size=224, resize_size=256)`: the short
side to 256, bilinear with antialiasing, then the centre 224×224. Here only the crop is computed, from the box of the
original that it shows.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from errors import DamagedImage, NotAnImage, TooLarge

CROP = 224  # pixels, torchvision's crop_size
RESIZE = 256  # pixels of the short side, torchvision's resize_size
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. The short side must keep this many pixels: the antialiasing of
# the second step then averages over five of them, and no probability moves by more than 0.006 (with three: 0.013).
SHORT_SIDE_AFTER_REDUCTION = 5 * RESIZE

# A JPEG's markers; \xff before \x00 or a restart (d0 to d7) is part of a scan, and before \xff it is padding.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
START_OF_SCAN, END_OF_IMAGE, WITHOUT_LENGTH = b"\xda", b"\xd9", (b"\x01", b"\xd8")
ORDINARY_SCANS = 50  # an ordinary progressive JPEG has ten
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


@dataclass(frozen=True)
class OpenedImage:
    """An image of which the header has been read.

    place: how an error names it.
    pixels: how many the decoder will go over; more than width × height where a file asks for more.
    """

    image: Image.Image
    place: str
    pixels: int


def open_image(image_bytes: bytes, place: str, max_pixels: int) -> OpenedImage:
    """Image bytes → an image that is small enough to be decoded.

    Raises RequestError: NotAnImage (400), or TooLarge (413) before anything is decoded.
    """
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
    try:
        return _centre_crop(opened.image)
    except MemoryError:
        raise
    except Exception:  # OSError, SyntaxError, ValueError, struct.error, EOFError, …: Pillow's decoders raise them all
        image_format = "JPEG" if opened.image.format == "MPO" else str(opened.image.format)
        raise DamagedImage(opened.place, image_format) from None


def _pixels_to_decode(image: Image.Image, image_bytes: bytes) -> int:
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):  # each scan may go over the whole picture
        return pixels * max(1, _scans(image_bytes) // ORDINARY_SCANS)
    if image.format == "TIFF":  # a tile may be larger than the picture
        tags = image.tag_v2  # type: ignore[attr-defined]
        return max(pixels, int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0)))
    return pixels


def _scans(jpeg: bytes) -> int:
    """How many scans a JPEG has. Segments say how long they are; what follows the end of the image does not count."""
    scans, position = 0, 0
    while found := MARKER.search(jpeg, position):
        marker, position = found[1], found.end()
        if marker == END_OF_IMAGE:
            break
        if marker not in WITHOUT_LENGTH:
            position += int.from_bytes(jpeg[position : position + 2], "big")
        scans += marker == START_OF_SCAN
    return scans


def _centre_crop(image: Image.Image) -> np.ndarray:
    width, height = image.size
    reduction = _reduce(image)
    image.load()
    orientation = _orientation(image)
    image = _to_rgb(image)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
        if orientation >= 5:
            width, height = height, width
    left, top, right, bottom = _crop_box(width, height)
    box = (left / reduction, top / reduction, right / reduction, bottom / reduction)
    return np.asarray(image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=box))


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
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF: every viewer shows such a picture as it lies
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
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
