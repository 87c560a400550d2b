"""Decodes image files as the handler does. Needs handler/ on the path."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from pipeline.artefact.model import MODEL
from vision.image import decoder
from vision.image.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(**asdict(MODEL.preprocessing))


def decode(image: bytes, max_pixels: int, place: str = "body") -> np.ndarray:
    """RGB pixels, uint8 of shape (224, 224, 3). Raises RequestError."""
    return decoder.decode(decoder.open_image(image, place, max_pixels), PREPROCESSING)
