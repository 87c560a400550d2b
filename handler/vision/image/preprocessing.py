"""How a network was shown its images, and so wants to see them."""

from __future__ import annotations

from dataclasses import dataclass

INTERPOLATIONS = ("bilinear", "bicubic")  # each with antialiasing; no weights of torchvision's ask for another


@dataclass(frozen=True)
class Preprocessing:
    """resize: pixels of the short side. crop: pixels, of the square in the middle of that, at most `resize`.

    mean, std: of red, green and blue, where a channel goes from 0 to 1.
    interpolation: one of INTERPOLATIONS; ValueError for another, with a sentence for the server's log.
    """

    resize: int
    crop: int
    mean: list[float]
    std: list[float]
    interpolation: str = "bilinear"  # what older archives do, which do not say it

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            expected = " or ".join(INTERPOLATIONS)
            raise ValueError(f"model.yaml: preprocessing.interpolation must be {expected}, not {self.interpolation!r}")
