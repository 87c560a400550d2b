"""Whether damaged versions are refused, and equal ones promoted, by the criteria of compare.sh and deploy.sh --golden.

Decoder and classifier are the handler's own. A server would add nothing here; tests/pipeline/commands/
test_compare_command.py sends some cases through servers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefact.model import MODEL
from pipeline.serving.comparison import Answer, Comparison, Outcome
from pipeline.serving.protocol import Class
from pipeline.shared.errors import PipelineError

CHECKOUT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 600  # for one processor


@dataclass(frozen=True)
class Judged:
    """The verdict on one version. agreement: a share of the pictures. movement: the mean."""

    kind: str
    name: str
    agreement: float
    movement: float
    promoted: bool

    @classmethod
    def of(cls, kind: str, name: str, comparison: Comparison) -> Judged:
        promoted = comparison.shortfall(None) is None
        return cls(kind, name, comparison.agreement, comparison.mean_movement or 0.0, promoted)


@dataclass(frozen=True)
class Candidates:
    """known: the share of the pictures whose subject the live version recognises."""

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
        return [
            *(f"promoted although damaged: {it.kind}, {it.name}" for it in self.damaged if it.promoted),
            *(f"refused although equal: {it.kind}, {it.name}" for it in self.equal if not it.promoted),
        ]


def tried(say: Callable[[str], None]) -> Candidates:
    from reliability import golden_set, variants  # torch takes seconds

    labels = [(wnid or "", label) for wnid, label in MODEL.classes]
    say("fitting weights to pictures")
    images, state = golden_set.golden(), golden_set.fitted_state()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)

        def answers(variant: variants.Variant) -> np.ndarray:
            say(f"{variant.kind}: {variant.name}")
            return variants.probabilities(variant, state, images, folder)

        def judged(variant: variants.Variant, found: np.ndarray) -> Judged:
            return Judged.of(variant.kind, variant.name, compared(base, answered(found, variant.labels(labels))))

        serves = answers(variants.Variant("the one that serves", "float32, batches of 1", batch=1))
        subjects = len(golden_set.subjects())
        right = [row.argmax() == golden_set.class_of(number % subjects) for number, row in enumerate(serves)]
        base = answered(serves, labels)
        wrong = [judged(it, answers(it)) for it in variants.damaged()]
        equal = [judged(it, answers(it)) for it in variants.equal_here()]
        (folder / "pictures").mkdir()
        for number, image in enumerate(images):
            (folder / "pictures" / f"{number:02}.jpg").write_bytes(image)
        np.savez(folder / "state.npz", **state)  # type: ignore[arg-type]
        for processor, variables in variants.PROCESSORS.items():
            say(f"another processor: {processor}")
            found = elsewhere(folder, processor, variables)
            equal += [judged(it, found[it.name]) for it in variants.equal_elsewhere(processor)]
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


def compared(a: list[Answer], b: list[Answer]) -> Comparison:
    """The answers of two versions to the same pictures."""
    return Comparison([Outcome.of(f"{n}", [one], [other]) for n, (one, other) in enumerate(zip(a, b, strict=True))])


def answered(probabilities: np.ndarray, labels: list[tuple[str, str]]) -> list[Answer]:
    """Probabilities (N, 1000) → a server's answers, with all classes for each picture."""
    found = []
    for row in probabilities.tolist():
        ordered = sorted(range(len(row)), key=row.__getitem__, reverse=True)
        classes = [Class(index=at, wnid=labels[at][0], label=labels[at][1], probability=row[at]) for at in ordered]
        found.append(Answer(0, classes))
    return found
