"""The pixels that torchvision's transform for the ImageNet weights makes, before it normalises them."""

from __future__ import annotations

import numpy as np

from tests.support.reference import TRANSFORM, torchvision, upright_rgb

functional = torchvision.transforms.functional


def reference_pixels(image: bytes) -> np.ndarray:
    """An image file → uint8 (224, 224, 3)."""
    resized = functional.resize(
        upright_rgb(image), TRANSFORM.resize_size, interpolation=TRANSFORM.interpolation, antialias=TRANSFORM.antialias
    )
    return np.asarray(functional.center_crop(resized, TRANSFORM.crop_size))
