"""What a client is told, whatever form its answer goes out in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredClass:
    """A class and its probability.

    index: its place in the network's output. wnid: its WordNet id, `n02123045`, where it has one.
    """

    index: int
    wnid: str | None
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the most probable classes, the first the most probable."""

    classes: list[ScoredClass]


@dataclass(frozen=True)
class Answer:
    """A prediction for each instance of the request, in the same order."""

    predictions: list[Prediction]
