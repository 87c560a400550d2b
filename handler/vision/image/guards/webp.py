"""WebP: its canvas, which Pillow makes before it finds a picture that is smaller."""

from __future__ import annotations

from vision.errors import TooLarge

EXTENDED = b"WEBPVP8X"


def has_canvas(image: bytes) -> bool:
    """Whether it is a WebP with a head that says how large its canvas is."""
    return image[8:16] == EXTENDED and len(image) >= 30


def check_canvas(image: bytes, place: str, max_pixels: int) -> None:
    """Raises TooLarge."""
    width, height = (int.from_bytes(image[at : at + 3], "little") + 1 for at in (24, 27))
    if width * height > max_pixels:
        raise TooLarge(place, max_pixels, "pixels")
