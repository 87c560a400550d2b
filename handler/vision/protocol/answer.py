"""What a client is told, independent of the format of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ScoredClass:
    """A class and its probability.

    index: its position in the network's output. wnid: its WordNet id, such as `n02123045`, if it has one.
    """

    index: int
    wnid: str | None
    label: str
    probability: float

    @property
    def written_probability(self) -> float:
        """As written in JSON: six significant digits."""
        return float(f"{self.probability:.6g}")


@dataclass(frozen=True)
class Prediction:
    """What one image shows: its most probable classes, most probable first."""

    classes: list[ScoredClass]


@dataclass(frozen=True)
class Explanation:
    """Which part of an image led to a class.

    explained: the class. form: one of `request.FORMS`. content_type: of the picture, or JSON for a grid.
    content: the picture's file, or the rows of a grid of numbers from 0 to 1.
    """

    explained: ScoredClass
    form: str
    content_type: str
    content: bytes | list[list[float]]


@dataclass(frozen=True)
class Answer:
    """A prediction for each instance of the request, in the same order; and an explanation of each, if asked for."""

    predictions: list[Prediction]
    explanations: list[Explanation] = field(default_factory=list)


@dataclass(frozen=True)
class Response:
    """What is sent back. headers: in addition to the content type."""

    body: bytes
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
