"""The pixels from torchvision's transforms, before normalisation."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from tests.support.reference import TRANSFORM, ImageClassification, torchvision, upright_rgb
from vision.image.preprocessing import Preprocessing


def reference_pixels(image: bytes | Image.Image, transform: ImageClassification = TRANSFORM) -> np.ndarray:
    """An image file, or an upright RGB picture → uint8 (crop, crop, 3)."""
    functional = torchvision.transforms.functional
    resized = functional.resize(
        upright_rgb(image) if isinstance(image, bytes) else image,
        transform.resize_size,
        interpolation=transform.interpolation,
        antialias=transform.antialias,
    )
    return np.asarray(functional.center_crop(resized, transform.crop_size))


@cache
def presets() -> dict[str, ImageClassification]:
    """The transforms of all weights of torchvision's classifiers, each kind once, by their parameters."""
    models = torchvision.models
    weights = [each for name in models.list_models(module=models) for each in models.get_model_weights(name)]
    return {str(vars(each.transforms())): each.transforms() for each in weights}


def preprocessing(transform: ImageClassification) -> Preprocessing:
    """The same in this project's terms."""
    (resize,), (crop,) = transform.resize_size, transform.crop_size
    assert transform.antialias
    return Preprocessing(resize, crop, list(transform.mean), list(transform.std), transform.interpolation.value)
