"""A classifier becomes an archive: weights → network → program → proof → .mar."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.artefact.archive import Archive, build_archive
from pipeline.artefact.contents import PROOF_FILE, write_contents, write_facts
from pipeline.artefact.halved import halve
from pipeline.artefact.int8.packing import Original, write_int8
from pipeline.artefact.int8.photographs import photographs
from pipeline.artefact.int8.proof import BOUNDS, Bounds
from pipeline.artefact.model import Model
from pipeline.artefact.program import Program, export
from pipeline.artefact.proof import Proof, ask_module, ask_packed, prove
from pipeline.artefact.weights import Weights, network
from pipeline.shared.errors import naming


def pack(
    handler_directory: Path,
    weights: Weights,
    model: Model,
    output: Path,
    progress: Callable[[str], None] = lambda _: None,
    int8: Path | None = None,
    bounds: Bounds = BOUNDS,
    halved: bool = False,
) -> tuple[Archive, Proof]:
    """progress: told what is being done. int8: a folder of photographs, for an int8 network beside the float one, which
    keeps the bounds. halved: the weights are stored in bfloat16.

    Raises PipelineError where the network cannot be packed, or the packed one answers otherwise than it did; OSError
    where nothing can be written. What was at `output` before then stays.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming(output), tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as made:
        folder = Path(made)
        write_facts(model, bfloat16=True, folder=folder)
        program = Program(b"", {})

        def ask(pictures: Sequence[Path], precisions: Sequence[str]) -> dict[str, np.ndarray]:
            return ask_packed(program, folder, handler_directory, pictures, precisions)

        seen = None
        if int8:
            progress("looking at the photographs")
            seen = photographs(int8, ask)
        progress("tracing the network")
        module = network(model, weights)
        program = export(module, model.preprocessing.crop)
        write_contents(program, weights.origin, model, folder)
        progress("asking the packed network and the original the same photographs")
        proof = prove(module, model, program, folder, handler_directory)
        if halved:
            progress("asking the network with weights in bfloat16 the same photographs")
            proof = halve(module, model, program, folder, handler_directory, proof)
        if seen:
            original = Original(lambda pixels: ask_module(module, pixels, model), program, weights.origin, model)
            proof = replace(proof, int8=write_int8(original, seen, folder, ask, bounds, progress))
        write_facts(model, proof.bfloat16.passed, folder, int8=seen is not None)
        (folder / PROOF_FILE).write_bytes(proof.to_json())
        progress("writing the archive")
        return build_archive(handler_directory, folder, model.name, output), proof
