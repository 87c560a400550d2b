"""Proves that the int8 network answers as the float one does, on photographs that it was not made with.

Both are evaluated in float64, which gives the same on any processor; this is recorded for each photograph. The
archive's own handler runs the network too, as a worker does: on this processor, its answers must also keep the bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.artefact.int8.evaluation import as_float64, evaluate
from pipeline.artefact.int8.photographs import Ask, Photograph, in_parts, turned, upright
from pipeline.artefact.int8.statistics import batches, normalised
from pipeline.artefact.model import Preprocessing
from pipeline.artefact.program import Program
from pipeline.artefact.proof import softmax
from pipeline.shared.errors import PipelineError

INT8 = "int8"
DIGITS = 5  # of a recorded figure


@dataclass(frozen=True)
class Bounds:
    """same: the least share of photographs with the same first class. on_average: the limit for the mean of each
    photograph's largest change of a probability.
    """

    same: float = 0.995
    on_average: float = 0.005


BOUNDS = Bounds()


@dataclass(frozen=True)
class Fidelity:
    """same: the share of photographs with the same first class. on_average: the mean of each photograph's largest
    change of a probability. moved: the largest change of any probability.
    """

    same: float
    on_average: float
    moved: float

    def within(self, bounds: Bounds) -> bool:
        return self.same >= bounds.same and self.on_average <= bounds.on_average

    def __str__(self) -> str:
        return f"{self.same:.1%} the same first class, {self.on_average:.4f} moved on average"


@dataclass(frozen=True)
class Answer:
    """The first class in each precision."""

    sha256: str
    float: int
    int8: int


@dataclass(frozen=True)
class Int8Proof:
    """layers: what is int8, in words. ranges: how many photographs it was made with. exact: in float64. served: by the
    handler on this machine; turned: the same for transposed photographs, which is only reported.
    passed_over: other files among the photographs.
    """

    layers: str
    ranges: int
    bounds: Bounds
    exact: Fidelity
    served: Fidelity
    turned: Fidelity
    answers: tuple[Answer, ...]
    passed_over: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        return self.exact.within(self.bounds) and self.served.within(self.bounds)

    @property
    def measured(self) -> str:
        """For people: the worse of the two results."""
        worse = self.served if self.exact.within(self.bounds) else self.exact
        return f"{worse} (of {len(self.answers)} photographs)"

    @property
    def bound(self) -> str:
        return f"at least {self.bounds.same:.1%}, and at most {self.bounds.on_average:g}"

    def __str__(self) -> str:
        """For people, on one line."""
        return f"{self.layers} in int8: {self.measured}"

    def to_json(self) -> dict[str, Any]:
        """Only what does not depend on the processor."""
        return {
            "passed": self.passed,
            "layers": self.layers,
            "photographs": {"ranges": self.ranges, "proof": len(self.answers)},
            "at_least": {"same": self.bounds.same},
            "at_most": {"on_average": self.bounds.on_average},
            "same": round(self.exact.same, DIGITS),
            "on_average": round(self.exact.on_average, DIGITS),
            "answers": [asdict(each) for each in self.answers],
        }


def prove_int8(
    module: Callable[[np.ndarray], np.ndarray],
    floats: Program,
    int8: Program,
    preprocessing: Preprocessing,
    photographs: Sequence[Photograph],
    ask: Ask,
    made: tuple[str, int, Bounds],
) -> Int8Proof:
    """module: pixels, uint8 (N, side, side, 3) → the float32 network's logits (N, classes). floats: its program.

    made: what is int8, in words; the number of photographs it was made with; and the bounds.
    Raises PipelineError if the handler cannot run it here.
    """
    exact, served, askew = [], [], []
    for together in in_parts(photographs):
        answers = ask([each.file for each in together], (INT8,))
        if INT8 not in answers:
            reason = str(answers[f"no {INT8}"]).partition("is int8: ")[2]  # without the setting, which nobody set
            raise PipelineError(f"an int8 network cannot be verified on this machine: {reason}")
        pixels = upright(answers["pixels"])
        exact.append((_exact(floats, pixels, preprocessing), _exact(int8, pixels)))
        served.append((module(pixels), upright(answers[INT8])))
        askew.append((module(turned(answers["pixels"])), turned(answers[INT8])))
    (before, after), *_ = pairs = [_joined(each) for each in (exact, served, askew)]
    firsts = zip(photographs, before.argmax(axis=1).tolist(), after.argmax(axis=1).tolist(), strict=True)
    answers_of_each = tuple(Answer(each.sha256, first, second) for each, first, second in firsts)
    layers, ranges, bounds = made
    found = [compared(*pair) for pair in pairs]
    return Int8Proof(layers, ranges, bounds, found[0], found[1], found[2], answers_of_each)


def compared(expected: np.ndarray, actual: np.ndarray) -> Fidelity:
    """Logits of the same photographs, (N, classes)."""
    before, after = softmax(expected.astype(np.float64)), softmax(actual.astype(np.float64))
    moved = np.abs(before - after).max(axis=1)
    same = expected.argmax(axis=1) == actual.argmax(axis=1)
    if not np.isfinite(actual).all():
        return Fidelity(0.0, 1.0, 1.0)
    return Fidelity(float(same.mean()), float(moved.mean()), float(moved.max()))


def _exact(program: Program, pixels: np.ndarray, preprocessing: Preprocessing | None = None) -> np.ndarray:
    tensors = as_float64(program.tensors)
    seen = (normalised(batch, preprocessing) if preprocessing else batch for batch in batches(pixels))
    return torch.cat([evaluate(program.nodes, program.output, tensors, batch) for batch in seen]).numpy()


def _joined(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([each[0] for each in pairs]), np.concatenate([each[1] for each in pairs])
