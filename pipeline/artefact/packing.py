"""A classifier becomes an archive: weights → network → program → proof → .mar."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.artefact.archive import Archive, build_archive
from pipeline.artefact.contents import PROOF_FILE, write_contents, write_facts
from pipeline.artefact.model import Model
from pipeline.artefact.program import export
from pipeline.artefact.proof import Proof, prove
from pipeline.artefact.weights import Weights, network
from pipeline.shared.errors import naming


def pack(
    handler_directory: Path,
    weights: Weights,
    model: Model,
    output: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Archive, Proof]:
    """progress: told what is being done.

    Raises PipelineError where the network cannot be packed, or the packed one answers otherwise than it did; OSError
    where nothing can be written. What was at `output` before then stays.
    """
    progress("tracing the network")
    module = network(model, weights)
    program = export(module, model.preprocessing.crop)
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming(output), tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as made:
        folder = Path(made)
        write_contents(program, weights.origin, model, folder)
        write_facts(model, bfloat16=True, folder=folder)
        progress("asking the packed network and the original the same photographs")
        proof = prove(module, model, program, folder, handler_directory)
        write_facts(model, proof.bfloat16.passed, folder)
        (folder / PROOF_FILE).write_bytes(proof.to_json())
        progress("writing the archive")
        return build_archive(handler_directory, folder, model.name, output), proof
