"""Pictures for tests: small synthetic ones in any mode and format, and many views of the photographs."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def gradient(width: int = 320, height: int = 260) -> Image.Image:
    """An RGB picture in which every place has its own colour, so that rotations and shifts show."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def base64_text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def views(photographs: list[Path], count: int, seed: int = 0) -> list[bytes]:
    """`count` JPEG files, each a random part of a photograph at a random quality, for statistics."""
    chance = random.Random(seed)
    originals = [Image.open(photograph).convert("RGB") for photograph in photographs]
    files = []
    for number in range(count):
        original = originals[number % len(originals)]
        width, height = (chance.randint(min(180, side // 2), side) for side in original.size)
        left, top = chance.randint(0, original.width - width), chance.randint(0, original.height - height)
        part = original.crop((left, top, left + width, top + height))
        files.append(encoded(part, "JPEG", quality=chance.choice([75, 85, 92])))
    return files
