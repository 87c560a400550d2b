"""How a network's images were prepared in training, and must be prepared here."""

from __future__ import annotations

from dataclasses import dataclass

INTERPOLATIONS = ("bilinear", "bicubic")  # each with antialiasing; torchvision's weights use no others


@dataclass(frozen=True)
class Preprocessing:
    """resize: the short side, in pixels. crop: the side of the central square, in pixels, at most `resize`.

    mean, std: of red, green and blue, each from 0 to 1.
    interpolation: one of INTERPOLATIONS; raises ValueError for any other, with a sentence for the server's log.
    """

    resize: int
    crop: int
    mean: list[float]
    std: list[float]
    interpolation: str = "bilinear"  # older archives do not state it

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            expected = " or ".join(INTERPOLATIONS)
            raise ValueError(f"model.yaml: preprocessing.interpolation must be {expected}, not {self.interpolation!r}")
