"""What an image file asks of a decoder, found out from its bytes before any decoder sees them.

When Pillow opens a file, it reads everything before the pixels: it follows every segment, chunk and tag, and copies
what each points to. A few bytes can thus cost gigabytes or seconds. The guards leave out what the pixels do not need,
where that is simple, and bound the rest, far above what programs write.

If a guard and a decoder read the same bytes differently, a file can slip past the guard. So a guard accepts less than
the decoders: it refuses whatever only one of them would accept.
"""

from __future__ import annotations

from vision.errors import NotAnImage
from vision.image.guards import gif, jpeg, png, tiff, webp
from vision.image.guards.stripped import Stripped

BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes, one for each version of the format


def strip_metadata(image: bytes, place: str, max_pixels: int) -> Stripped:
    """Raises NotAnImage, Unsupported or TooLarge for files that would cost a decoder much time or memory."""
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
    """Judged by its start and its header length: many texts begin with these two letters."""
    return image.startswith(b"BM") and int.from_bytes(image[14:18], "little") in BMP_HEADERS
