"""What a client is told, whatever form its answer goes out in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ScoredClass:
    """A class and its probability.

    index: its place in the network's output. wnid: its WordNet id, `n02123045`, where it has one.
    """

    index: int
    wnid: str | None
    label: str
    probability: float

    @property
    def written_probability(self) -> float:
        """As JSON has it: six significant digits."""
        return float(f"{self.probability:.6g}")


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the most probable classes, the first the most probable."""

    classes: list[ScoredClass]


@dataclass(frozen=True)
class Explanation:
    """Which part of one image made a class.

    explained: that class. form: one of `request.FORMS`. content_type: of the picture, or of JSON for a grid.
    content: the file of the picture, or the rows of a grid of numbers from 0 to 1.
    """

    explained: ScoredClass
    form: str
    content_type: str
    content: bytes | list[list[float]]


@dataclass(frozen=True)
class Answer:
    """A prediction for each instance of the request, in the same order; and an explanation, where one was asked for."""

    predictions: list[Prediction]
    explanations: list[Explanation] = field(default_factory=list)


@dataclass(frozen=True)
class Response:
    """What goes back. headers: beside the content type."""

    body: bytes
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
