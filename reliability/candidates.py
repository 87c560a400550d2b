"""Whether damaged versions are refused, and equal ones promoted, by what compare.sh and deploy.sh --golden decide by.

Decoder and classifier are the handler's own. A server would add nothing here; some cases go through servers in
tests/pipeline/commands/test_compare_command.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefact.model import MODEL
from pipeline.serving.client import Class
from pipeline.serving.comparison import REQUIRED, Answer, Comparison, Outcome
from pipeline.shared.errors import PipelineError

CHECKOUT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 600  # for one processor


@dataclass(frozen=True)
class Judged:
    """One version. agreement: a share of the pictures; movement: the largest of any probability."""

    kind: str
    name: str
    agreement: float
    movement: float
    promoted: bool

    @classmethod
    def of(cls, kind: str, name: str, comparison: Comparison) -> Judged:
        most = comparison.most_moved
        moved = most.movement if most and most.movement is not None else 0.0
        return cls(kind, name, comparison.agreement, moved, comparison.shortfall(REQUIRED) is None)


@dataclass(frozen=True)
class Candidates:
    """known: the share of the pictures of which the version that they are compared with knows the subject."""

    date: str
    pictures: int
    known: float
    damaged: list[Judged]
    equal: list[Judged]

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Candidates:
        judged = {name: [Judged(**each) for each in stored[name]] for name in ("damaged", "equal")}
        return cls(**{**stored, **judged})

    @property
    def failed(self) -> list[str]:
        promoted = [f"promoted although damaged: {it.kind}, {it.name}" for it in self.damaged if it.promoted]
        return promoted + [f"refused although equal: {it.kind}, {it.name}" for it in self.equal if not it.promoted]


def tried(say: Callable[[str], None]) -> Candidates:
    from reliability import golden_set, variants  # torch takes seconds

    labels = [(wnid, label) for wnid, label in json.loads(MODEL.labels.read_text(encoding="utf-8"))]
    say("fitting weights to pictures")
    images, state = golden_set.golden(), golden_set.fitted_state()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)

        def answers(variant: variants.Variant) -> np.ndarray:
            say(f"{variant.kind}: {variant.name}")
            return variants.probabilities(variant, state, images, folder)

        base = answers(variants.Variant("the one that serves", "float32, batches of 1", batch=1))
        subjects = len(golden_set.subjects())
        right = [row.argmax() == golden_set.class_of(number % subjects) for number, row in enumerate(base)]
        wrong = [
            Judged.of(it.kind, it.name, compared(base, answers(it), labels, it.labels(labels)))
            for it in variants.damaged()
        ]
        equal = [
            Judged.of(it.kind, it.name, compared(base, answers(it), labels, labels)) for it in variants.equal_here()
        ]
        (folder / "pictures").mkdir()
        for number, image in enumerate(images):
            (folder / "pictures" / f"{number:02}.jpg").write_bytes(image)
        np.savez(folder / "state.npz", **state)  # type: ignore[arg-type]
        for processor, variables in variants.PROCESSORS.items():
            say(f"another processor: {processor}")
            found = elsewhere(folder, processor, variables)
            for it in variants.equal_elsewhere(processor):
                equal.append(Judged.of(it.kind, it.name, compared(base, found[it.name], labels, labels)))
    return Candidates(time.strftime("%Y-%m-%d"), len(images), float(np.mean(right)), wrong, equal)


def elsewhere(folder: Path, processor: str, variables: dict[str, str]) -> dict[str, np.ndarray]:
    """The answers of a process with these variables, by the names of the variants."""
    environment = os.environ | variables | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'handler'}"}
    command = [sys.executable, "-P", "-m", "reliability.variants", str(folder), processor]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise PipelineError(f"{processor}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    with np.load(folder / f"{processor}.npz") as file:
        return dict(file)


def compared(
    a: np.ndarray, b: np.ndarray, labels_of_a: list[tuple[str, str]], labels_of_b: list[tuple[str, str]]
) -> Comparison:
    """Probabilities (N, 1000) of the same pictures, as the two versions would answer with them."""
    rows = zip(a, b, strict=True)
    return Comparison(
        [
            Outcome.of(f"{n}", [_answer(one, labels_of_a)], [_answer(other, labels_of_b)])
            for n, (one, other) in enumerate(rows)
        ]
    )


def _answer(probabilities: Iterable[float], labels: list[tuple[str, str]]) -> Answer:
    classes = [
        Class(index=index, wnid=wnid, label=label, probability=float(probability))
        for index, (probability, (wnid, label)) in enumerate(zip(probabilities, labels, strict=True))
    ]
    return Answer(0, sorted(classes, key=lambda found: -found["probability"]))
