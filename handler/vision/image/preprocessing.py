"""How a network was shown its images, and so wants to see them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """resize: pixels of the short side. crop: pixels, of the square in the middle of that.

    mean, std: of red, green and blue, where a channel goes from 0 to 1.
    """

    resize: int
    crop: int
    mean: list[float]
    std: list[float]
