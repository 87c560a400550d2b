"""Pictures for making an int8 network without photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path, count: int, side: int = 48) -> Path:
    """Large fields of colour with some noise, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        fields = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((side // 4, side // 4, 1), int))
        noisy = (fields + random.integers(-20, 21, fields.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index:02}.png")
    return folder
