"""Proves that the packed network answers as the module did: both get the same photographs before anything is packed.

The module runs here, in float32. The packed network runs as in a worker: in the archive's own handler, in a separate
process with neither torchvision nor the user's code.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pipeline.artefact.model import Model
from pipeline.artefact.program import Program
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import AnswersOtherwise, NotExportable, PipelineError

if TYPE_CHECKING:
    from pipeline.artefact.int8.proof import Int8Proof

PHOTOGRAPHS = sorted((CHECKOUT / "docs" / "photographs").glob("*.jpg"))
BATCH = 4
FLOAT32, BFLOAT16 = "float32", "bfloat16"

# float32: torchvision's own layers differ from run to run by a hundred times less.
MOST_MOVED = {FLOAT32: 1e-4, BFLOAT16: 0.05}  # for any probability
MOST_MOVED_ON_AVERAGE = {FLOAT32: 1e-4, BFLOAT16: 0.01}  # for each photograph's most changed probability
# For logits, in their own standard deviation: if a network is sure of nothing, or of only one class, probabilities
# hardly move.
MOST_OF_LOGITS = {FLOAT32: 1e-3, BFLOAT16: 0.1}
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Agreement:
    """At one precision. same: photographs with the same first class, or with the first two almost equal.

    moved: the largest change of a probability; on_average: the mean of each photograph's largest change; logits: the
    largest change of a logit, in standard deviations of all.
    """

    same: int
    moved: float
    on_average: float
    logits: float
    passed: bool


@dataclass(frozen=True)
class Proof:
    """photographs: how many were used, including views of them. int8: of the int8 network, if there is one.

    weights: the precision in which they are stored; float32 must keep its bounds.
    """

    photographs: int
    float32: Agreement
    bfloat16: Agreement
    int8: Int8Proof | None = None
    weights: str = FLOAT32

    def to_json(self) -> bytes:
        """Bounds and verdicts, and figures only if they exceed the bounds. Other figures depend on the processor, and
        an archive must not.
        """
        bounds = {"moved": MOST_MOVED, "on_average": MOST_MOVED_ON_AVERAGE, "logits": MOST_OF_LOGITS}
        said: dict[str, Any] = {"photographs": self.photographs}
        if self.weights != FLOAT32:
            said["weights"] = self.weights
        for precision, kept, found in ((FLOAT32, self.weights, self.float32), (BFLOAT16, BFLOAT16, self.bfloat16)):
            at_most = {name: bound[kept] for name, bound in bounds.items()}
            said[precision] = {"passed": found.passed, "at_most": at_most} | ({} if found.passed else asdict(found))
        if self.int8:
            said["int8"] = self.int8.to_json()
        return (json.dumps(said, indent=2) + "\n").encode()

    def __str__(self) -> str:
        """For people, on one line."""
        parts = [
            f"{name} {each.same} of {self.photographs} the same, moved by at most {each.moved:.1g}"
            for name, each in ((FLOAT32, self.float32), (BFLOAT16, self.bfloat16))
        ]
        return "; ".join(parts) + ("" if self.bfloat16.passed else ", so it is served only in float32")


def prove(
    module: nn.Module,
    model: Model,
    program: Program,
    folder: Path,
    handler_directory: Path,
    weights: str = FLOAT32,
) -> Proof:
    """folder: holds the packed network, as pipeline/artefact/contents.py wrote it. weights: see Proof.

    Raises NotExportable if the handler cannot run it, AnswersOtherwise if its float32 answers differ.
    """
    packed = ask_packed(program, folder, handler_directory)
    expected = ask_module(module, packed["pixels"], model)
    if not np.isfinite(expected).all():
        raise PipelineError("the network's answer to photographs is not finite: are these the weights of a network?")
    float32 = _compare(expected, packed.get(FLOAT32), bounds=weights)
    bfloat16 = _compare(expected, packed.get(BFLOAT16), bounds=BFLOAT16)
    proof = Proof(len(expected), float32, bfloat16, weights=weights)
    if not proof.float32.passed:
        raise AnswersOtherwise(str(proof))
    return proof


def ask_packed(
    program: Program,
    folder: Path,
    handler_directory: Path,
    pictures: Sequence[Path] = PHOTOGRAPHS,
    precisions: Sequence[str] = (FLOAT32, BFLOAT16),
) -> dict[str, np.ndarray]:
    """The answers from handler/vision/ask.py. program: for the places in an error. Raises PipelineError if it fails."""
    answers = folder / ".answers.npz"
    command = [sys.executable, "-P", "-m", "vision.ask", str(folder), str(answers), *precisions]
    done = subprocess.run(
        command,
        input="\n".join(str(each.absolute()) for each in pictures),
        # Threads that wait for each other in a loop would take the processors from other work.
        env=os.environ | {"PYTHONPATH": str(handler_directory), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise _not_run(said, program)
    with np.load(answers) as found:
        loaded = dict(found)
    answers.unlink()
    return loaded


def _not_run(said: str, program: Program) -> PipelineError:
    """The handler's error about a program, with the place in the network's code."""
    found = re.fullmatch(r"ValueError: .*: nodes\[(\d+)\]: (.*)", said)
    if not found:
        return PipelineError(f"the packed network cannot be run: {said[:300]}")
    return NotExportable(found[2][:300], program.places[int(found[1])])


@torch.inference_mode()
def ask_module(module: nn.Module, pixels: np.ndarray, model: Model) -> np.ndarray:
    """uint8 (N, crop, crop, 3) → logits, float32 (N, classes)."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (model.preprocessing.mean, model.preprocessing.std))
    found = []
    for start in range(0, len(pixels), BATCH):
        images = torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2).float() / 255  # channels_last
        found.append(module((images - mean) / std))
    return torch.cat(found).numpy()


def _compare(expected: np.ndarray, actual: np.ndarray | None, bounds: str) -> Agreement:
    """Logits of the same photographs, (N, classes), → how far apart they are. None: there was no answer.

    bounds: the precision whose bounds they must keep.
    """
    if actual is None or not np.isfinite(actual).all():
        return Agreement(0, 1.0, 1.0, 1.0, False)
    probabilities, others = softmax(expected), softmax(actual)
    moved = np.abs(probabilities - others).max(axis=1)
    logits = _centred(expected)
    apart = np.abs(logits - _centred(actual)).max() / max(float(logits.std()), LEAST_DEVIATION)
    ordered = np.sort(probabilities, axis=1)
    near = ordered[:, -1] - ordered[:, -2] <= 2 * MOST_MOVED[bounds] if expected.shape[1] > 1 else True
    same = (expected.argmax(axis=1) == actual.argmax(axis=1)) | near
    passed = (
        same.all()
        and moved.max() <= MOST_MOVED[bounds]
        and moved.mean() <= MOST_MOVED_ON_AVERAGE[bounds]
        and apart <= MOST_OF_LOGITS[bounds]
    )
    return Agreement(int(same.sum()), float(moved.max()), float(moved.mean()), float(apart), bool(passed))


def _centred(logits: np.ndarray) -> np.ndarray:
    """Without what is common to all classes, which changes no probability."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
