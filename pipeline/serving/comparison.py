"""How far apart the answers of two servers, A and B, to the same pictures are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from pipeline.serving.protocol import Class
from pipeline.shared.errors import AnotherModel, NothingCompared

# Without a required agreement, B must be equal to A apart from precision and processor. bfloat16 and float32 agree on
# 99.7 % of 1,000 photographs, so an equal version rarely falls below this share, even with only fifty of them.
# The mean movement that is allowed is then twice that of bfloat16 (docs/model-card.md). Slight damage, such as noise in
# one layer, leaves the first class unchanged but moves probabilities by more.
REQUIRED = 0.98
MOST_MOVEMENT = 0.01
FEW = 20  # pictures: with this many, one of them is 5 % of the agreement


def fewness(count: int) -> str | None:
    """A warning about too few pictures; None if there are enough."""
    few = "1 picture is few" if count == 1 else f"{count} pictures are few"
    return f"{few}: with fewer than {FEW}, a single one can decide" if count < FEW else None


@dataclass(frozen=True)
class Answer:
    """A server's answer to one call. classes: most probable first; empty without an answer, and `problem` says why."""

    seconds: float
    classes: Sequence[Class] = ()
    problem: str | None = None


@dataclass(frozen=True)
class First:
    """The most probable class. index: None if the server does not give it."""

    label: str
    index: int | None
    probability: float


@dataclass(frozen=True)
class Side:
    """A server's result for one picture: the times of the answered calls, and what went wrong with the others."""

    first: First | None
    seconds: list[float]
    problems: list[str]

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Side:
        classes = next((answer.classes for answer in answers if answer.classes), ())
        return cls(
            _first(classes) if classes else None,
            [answer.seconds for answer in answers if answer.problem is None],
            [answer.problem for answer in answers if answer.problem is not None],
        )


@dataclass(frozen=True)
class Outcome:
    """The comparison for one picture. agrees: None if A did not answer, as there is nothing to agree with.

    movement: the largest |pA − pB| over all classes; None unless both answered.
    """

    picture: str
    agrees: bool | None
    movement: float | None
    a: Side
    b: Side

    @classmethod
    def of(cls, picture: str, a: Sequence[Answer], b: Sequence[Answer]) -> Outcome:
        """Compares each answer of A with B's in the same place. A missing answer of B does not agree.

        Raises AnotherModel if the numbers of classes differ.
        """
        pairs = [(one.classes, other.classes) for one, other in zip(a, b, strict=True) if one.classes]
        moved = [_movement(one, other) for one, other in pairs if other]
        agrees = all(other and _names(one) == _names(other) for one, other in pairs) if pairs else None
        return cls(picture, agrees, max(moved, default=None), Side.of(a), Side.of(b))


def percent(share: float) -> str:
    """Rounded down, so that a value below a bound is not shown as the bound."""
    return f"{math.floor(share * 1000) / 1000:.1%}"


def _names(classes: Sequence[Class]) -> tuple[str, int | None]:
    first = _first(classes)
    return first.label, first.index


def _first(classes: Sequence[Class]) -> First:
    return First(classes[0]["label"], classes[0].get("index"), classes[0]["probability"])


def _movement(a: Sequence[Class], b: Sequence[Class]) -> float:
    """A class is its index and its label. A class that only one of them has counts as 0 for the other."""
    if len(a) != len(b):
        raise AnotherModel(len(a), len(b))
    of_a, of_b = ({(found.get("index"), found["label"]): found["probability"] for found in each} for each in (a, b))
    return max(abs(of_a.get(name, 0) - of_b.get(name, 0)) for name in of_a.keys() | of_b.keys())


@dataclass(frozen=True)
class Latency:
    """Seconds."""

    median: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency | None:
        if not seconds:
            return None
        return cls(median(seconds), sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1])


class Comparison:
    """The comparison over all pictures. Raises NothingCompared if A answered none of them."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        self.compared = [found for found in outcomes if found.agrees is not None]
        if not self.compared:
            raise NothingCompared(len(outcomes), next((why for found in outcomes for why in found.a.problems), ""))
        self.agreed = sum(found.agrees is True for found in self.compared)
        self.differing = [found for found in self.compared if not found.agrees]

    @property
    def agreement(self) -> float:
        """The share of pictures, from 0 to 1, with the same first class (label and index) from both."""
        return self.agreed / len(self.compared)

    @property
    def mean_movement(self) -> float | None:
        moved = [found.movement for found in self.outcomes if found.movement is not None]
        return fmean(moved) if moved else None

    @property
    def most_moved(self) -> Outcome | None:
        """The picture with the largest movement."""
        moved = [found for found in self.outcomes if found.movement is not None]
        return max(moved, key=lambda found: found.movement or 0, default=None)

    @property
    def latencies(self) -> tuple[Latency | None, Latency | None]:
        a = [seconds for found in self.outcomes for seconds in found.a.seconds]
        b = [seconds for found in self.outcomes for seconds in found.b.seconds]
        return Latency.of(a), Latency.of(b)

    @property
    def errors(self) -> tuple[int, int]:
        """Calls that were not answered."""
        a, b = (sum(len(side.problems) for side in sides) for sides in zip(*((o.a, o.b) for o in self.outcomes)))
        return a, b

    def shortfall(self, required: float | None) -> str | None:
        """Why this is too little agreement; None if it is enough.

        required: a share; None: B must be equal to A apart from precision and processor.
        """
        if 2 * len(self.compared) < len(self.outcomes):
            return f"A answered only {len(self.compared)} of {len(self.outcomes)} pictures ({self._why_left_out})"
        share = REQUIRED if required is None else required
        if self.agreement < share:
            return f"the agreement is {percent(self.agreement)}, but {share * 100:g}% is required: {self._disagreement}"
        moved = self.mean_movement
        if required is None and moved is not None and moved > MOST_MOVEMENT:
            return (
                f"probabilities move by {moved:.4f} on average, but another precision or processor moves them by less "
                f"than {MOST_MOVEMENT}: give --require-agreement if the versions are meant to differ"
            )
        return None

    @property
    def left_out(self) -> str | None:
        """A warning about pictures that A did not answer; None if it answered all."""
        count = len(self.outcomes) - len(self.compared)
        if not count:
            return None
        return f"A did not answer {count} of {len(self.outcomes)} pictures: they do not count ({self._why_left_out})"

    @property
    def _why_left_out(self) -> str:
        return next((why for found in self.outcomes if found.agrees is None for why in found.a.problems), "")

    @property
    def _disagreement(self) -> str:
        unanswered = [found for found in self.differing if found.b.first is None or found.b.problems]
        said = f"{len(self.differing) - len(unanswered)} of {len(self.compared)} pictures have a different first class"
        if unanswered:
            said += f", and B did not answer {len(unanswered)} ({unanswered[0].b.problems[0]})"
        return said

    def to_json(self) -> dict[str, Any]:
        """Times in seconds, probabilities and shares from 0 to 1."""
        latencies = [asdict(found) if found else None for found in self.latencies]
        return {
            "pictures": len(self.outcomes),
            "compared": len(self.compared),
            "agreement": self.agreement,
            "movement": {
                "mean": self.mean_movement,
                "largest": self.most_moved.movement if self.most_moved else None,
                "picture": self.most_moved.picture if self.most_moved else None,
            },
            "a": {"latency": latencies[0], "errors": self.errors[0]},
            "b": {"latency": latencies[1], "errors": self.errors[1]},
            "outcomes": [asdict(found) for found in self.outcomes],
        }
