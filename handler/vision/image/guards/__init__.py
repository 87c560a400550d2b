"""What an image file asks for, told from its own bytes before a decoder sees them.

Pillow reads all that comes before the pixels when it opens a file: it follows every segment, chunk and tag, and copies
what each points at. A few bytes can so ask for gigabytes, or for seconds. What pixels do not need is left out here, as
far as that is simple, and the rest is bounded, far above what programs write.

Where a guard and a decoder read the same bytes differently, a file gets past it. So a guard takes less than they do:
what only one of them would accept is refused.
"""

from __future__ import annotations

from vision.errors import NotAnImage
from vision.image.guards import gif, jpeg, png, tiff, webp
from vision.image.guards.stripped import Stripped

BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; each version of the format has one


def strip_metadata(image: bytes, place: str, max_pixels: int) -> Stripped:
    """Raises RequestError where a decoder would take long, or much memory: NotAnImage, Unsupported (400), TooLarge."""
    if image.startswith(jpeg.START):
        return jpeg.stripped(image, place)
    if image.startswith(gif.STARTS):
        return Stripped(gif.without_extensions(image, place), format="GIF")
    if image.startswith(tiff.ODD_STARTS):
        raise NotAnImage(place)
    if image.startswith(png.START):
        return png.stripped(image, place)
    if webp.is_webp(image):
        return webp.stripped(image, place, max_pixels)
    return Stripped(image, format="BMP" if is_bmp(image) else "")


def is_bmp(image: bytes) -> bool:
    """By its start and the length of its header: two letters alone begin many a text."""
    return image.startswith(b"BM") and int.from_bytes(image[14:18], "little") in BMP_HEADERS
