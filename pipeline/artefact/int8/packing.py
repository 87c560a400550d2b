"""A float program and photographs → an int8 program that keeps the bounds, as files next to the float one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.artefact.contents import INT8_PROGRAM_FILE, INT8_WEIGHTS_FILE, write_facts, write_weights
from pipeline.artefact.int8.photographs import Ask, Photographs
from pipeline.artefact.int8.plan import LAYERS
from pipeline.artefact.int8.proof import Bounds, Int8Proof, prove_int8
from pipeline.artefact.int8.quantisation import quantised
from pipeline.artefact.model import Model
from pipeline.artefact.program import Program
from pipeline.shared.errors import AnswersOtherwiseInInt8

# What becomes int8, in words, the fastest first.
ATTEMPTS = {
    "convolutions and linear layers": LAYERS,
    "convolutions alone": frozenset({"conv2d"}),
}


@dataclass(frozen=True)
class Original:
    """The float network. module: pixels, uint8 (N, side, side, 3) → logits (N, classes). origin: its weights'."""

    module: Callable[[np.ndarray], np.ndarray]
    program: Program
    origin: str
    model: Model


def write_int8(
    original: Original,
    photographs: Photographs,
    folder: Path,
    ask: Ask,
    bounds: Bounds,
    say: Callable[[str], None],
) -> Int8Proof:
    """Writes the first attempt that keeps the bounds.

    ask: runs the handler with the files in `folder`. Raises AnswersOtherwiseInInt8 if no attempt keeps them.
    """
    proofs: list[Int8Proof] = []
    asked = 0

    def asking(pictures: Sequence[Path], precisions: Sequence[str]) -> dict[str, np.ndarray]:
        nonlocal asked
        asked += len(pictures)
        say(f"int8: comparing it with the original on other photographs ({asked} of {len(photographs.proof)})")
        return ask(pictures, precisions)

    for words, kinds in ATTEMPTS.items():
        made = quantised(original.program, original.model.preprocessing, photographs.pixels, kinds, say)
        if proofs and made.graph == (folder / INT8_PROGRAM_FILE).read_bytes():
            continue  # it has no linear layers
        (folder / INT8_PROGRAM_FILE).write_bytes(made.graph)
        write_weights(made.tensors, original.origin, folder / INT8_WEIGHTS_FILE)
        write_facts(original.model, bfloat16=True, folder=folder, int8=True)
        asked = 0
        how = words, len(photographs.pixels), bounds
        preprocessing = original.model.preprocessing
        proof = prove_int8(original.module, original.program, made, preprocessing, photographs.proof, asking, how)
        if proof.passed:
            return replace(proof, passed_over=photographs.passed_over)
        proofs.append(proof)
    raise AnswersOtherwiseInInt8(proofs)
