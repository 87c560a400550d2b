"""Weights in bfloat16, for an archive of half the size: each start fetches, checks and maps half as much.

The archive's own handler writes them in the form in which a processor uses them: see handler/vision/model/as_run.py. A
server that computes in float32 widens them again, but no digits return: both precisions must then keep bfloat16's
bounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from torch import nn

from pipeline.artefact.model import Model
from pipeline.artefact.program import Program
from pipeline.artefact.proof import BFLOAT16, Proof, prove
from pipeline.shared.errors import PipelineError


def halve(
    module: nn.Module, model: Model, program: Program, folder: Path, handler_directory: Path, proof: Proof
) -> Proof:
    """Replaces the weights in a folder that is to be packed, and proves the network on the photographs again.

    proof: of the present weights. Raises PipelineError if bfloat16 is too far from the original.
    """
    if not proof.bfloat16.passed:
        raise PipelineError(
            f"this network differs too much in bfloat16, so its weights must stay float32: {proof}: "
            "pack it without --weights-precision bfloat16"
        )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vision.model.weights", str(folder)],
        env=os.environ | {"PYTHONPATH": str(handler_directory)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise PipelineError(f"the weights cannot be written in bfloat16: {said[:300]}")
    return prove(module, model, program, folder, handler_directory, weights=BFLOAT16)
