"""Image files through the handler's decoder, as the handler sends them. Needs handler/ on the path."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision.image import decoder
from vision.model.facts import read_facts

FACTS = Path(__file__).resolve().parent.parent / "models" / "alexnet.yaml"
PREPROCESSING = read_facts(FACTS).preprocessing


def decode(image: bytes, max_pixels: int, place: str = "body") -> np.ndarray:
    """RGB pixels, uint8 of shape (224, 224, 3). Raises RequestError."""
    return decoder.decode(decoder.open_image(image, place, max_pixels), PREPROCESSING)
