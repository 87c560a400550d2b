"""Turns a classifier into an archive: weights → network → program → proof → .mar."""

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
    """progress: called with what is being done. int8: a folder of photographs, for an int8 network in addition to the
    float one; it must keep the bounds. halved: store the weights in bfloat16.

    Raises PipelineError if the network cannot be packed, or the packed network's answers differ; OSError if nothing can
    be written. `output` is then unchanged.
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
            progress("reading the photographs")
            seen = photographs(int8, ask)
        progress("tracing the network")
        module = network(model, weights)
        program = export(module, model.preprocessing.crop)
        write_contents(program, weights.origin, model, folder)
        progress("comparing the packed network with the original on photographs")
        proof = prove(module, model, program, folder, handler_directory)
        if halved:
            progress("comparing the network with bfloat16 weights on the same photographs")
            proof = halve(module, model, program, folder, handler_directory, proof)
        if seen:
            original = Original(lambda pixels: ask_module(module, pixels, model), program, weights.origin, model)
            proof = replace(proof, int8=write_int8(original, seen, folder, ask, bounds, progress))
        write_facts(model, proof.bfloat16.passed, folder, int8=seen is not None)
        (folder / PROOF_FILE).write_bytes(proof.to_json())
        progress("writing the archive")
        return build_archive(handler_directory, folder, model.name, output), proof
