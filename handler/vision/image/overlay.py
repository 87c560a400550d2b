"""A heat map as a picture: grey, or coloured on top of the picture it belongs to, which is then shown in grey."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Nine of the 256 colours of matplotlib's inferno (CC0), evenly spaced. Higher numbers are lighter: colour-blind people
# can read the map, and it survives black-and-white print.
INFERNO = "000003 200c4a 570f6d 892269 bb3754 e45a31 f98e08 f8cb34 fcfea4"
MOST_COLOUR = 0.6  # the share of colour in a pixel where the number is 1; the rest is the picture
QUALITY = 75  # of the JPEG: about 9 kB for 224 × 224
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of red, green and blue: ITU-R BT.601, as in Pillow


def overlay(picture: np.ndarray, heat: np.ndarray) -> bytes:
    """A JPEG of the picture in grey with the heat on top, which is more opaque the higher it is.

    The picture is grey so that every colour means heat.
    picture: RGB, uint8 (side, side, 3). heat: float32 (rows, rows), 0 to 1; all zeros leave the grey picture.
    """
    strength = _enlarged(heat, len(picture))
    colours = _colours()[(strength * 255).round().astype(np.uint8)]  # (side, side, 3)
    cover = strength[:, :, None] * MOST_COLOUR
    mixed = (picture @ LUMA)[:, :, None] * (1 - cover) + colours * cover
    return _file(Image.fromarray(mixed.round().astype(np.uint8)), "JPEG", quality=QUALITY)


def grey(heat: np.ndarray, side: int) -> bytes:
    """A PNG of side × side pixels, in grey: black is 0, white 1. heat: float32 (rows, rows), 0 to 1."""
    return _file(Image.fromarray((_enlarged(heat, side) * 255).round().astype(np.uint8)), "PNG")


def _enlarged(heat: np.ndarray, side: int) -> np.ndarray:
    resized = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized).clip(0, 1)  # bicubic overshoots


def _colours() -> np.ndarray:
    """float32 (256, 3), 0 to 255."""
    few = np.array([list(bytes.fromhex(colour)) for colour in INFERNO.split()], dtype=np.float32)
    at = np.linspace(0, len(few) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(few)), channel) for channel in few.T], axis=1).astype(np.float32)


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
