"""An archive's program and weights. Workers map bfloat16 weights from one file, which the first of them writes.

python -m vision.model.weights FOLDER        replaces FOLDER's weights.safetensors with such a file, before packing
"""

from __future__ import annotations

import logging
import sys
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vision.model import as_run
from vision.model.alone import alone
from vision.model.devices import BFLOAT16, FLOAT32
from vision.model.program import MOST_BYTES, Program, read_program

logger = logging.getLogger(__name__)

PROGRAM, WEIGHTS = "program.json", "weights.safetensors"
OF_INT8 = "int8.json", "int8.safetensors"  # the same for the 8-bit network, if any
SHARED = "bfloat16.safetensors"  # after `weights.` or `int8.`; worker/integrity.py allows both files
OF, SHA256 = "of", "sha256"  # its metadata: digests of its source and of its own tensors

# If the archive's weights are larger, each worker keeps its own: the shared file would add half as much to /tmp, and a
# pod that exceeds the 1 GiB of kserve/runtime/serving-runtime.yaml is evicted.
MOST_SHARED_BYTES = 600_000_000


def load(
    directory: Path, precision: str = FLOAT32, program_name: str = PROGRAM, weights_name: str = WEIGHTS
) -> tuple[Program, dict[str, torch.Tensor], dict[str, str]]:
    """The program; its weights, still memory-mapped; and the file's metadata about their origin.

    precision: the one used on a processor. In an unpacked archive, bfloat16 weights come from a file that all workers
    map; for float32, or if that file cannot be written, weights come from the archive.
    Raises ValueError if one of the two files is not what packaging wrote, or they do not fit each other.
    """
    try:
        stored, origin = _read(directory / weights_name)
        weights = as_run.from_store(stored)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(f"{weights_name} cannot be read: {' '.join(str(error).split())[:200]}") from None
    try:
        with open(directory / program_name, "rb") as file:
            text = file.read(MOST_BYTES + 1)
        program = read_program(text, weights)
    except (OSError, ValueError) as error:
        raise ValueError(f"{program_name} does not fit these weights: {error}") from None
    if precision == BFLOAT16 and directory.joinpath("MAR-INF").is_dir() and as_run.would_change(weights, program):
        made_of = f"{origin.get(SHA256)} {sha256(text).hexdigest()}"
        weights = _shared(directory / f"{Path(weights_name).stem}.{SHARED}", program, weights, made_of)
    return program, weights, origin


def rewrite(directory: Path) -> None:
    """Converts a folder's weights.safetensors to the bfloat16 layout for packing. Raises like `load`, and OSError."""
    program, weights, origin = load(directory)
    stored = as_run.to_store(weights, program)
    part = directory / f".{WEIGHTS}"
    as_run.write(stored, {**origin, SHA256: as_run.digest(stored)}, part)
    part.replace(directory / WEIGHTS)


def _read(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(str(file), framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118


def _shared(file: Path, program: Program, weights: dict[str, torch.Tensor], made_of: str) -> dict[str, torch.Tensor]:
    """The weights in bfloat16, from the shared file; or unchanged, if it neither exists nor can be written."""
    try:
        with alone(file.parent):
            if (found := _found(file, made_of)) is not None:
                return found
            files = [file.with_name(name) for name in (WEIGHTS, OF_INT8[1])]
            if sum(each.stat().st_size for each in files if each.exists()) > MOST_SHARED_BYTES:
                return weights
            _write(as_run.to_store(weights, program), made_of, file)
            return as_run.from_store(_read(file)[0])
    except (OSError, RuntimeError, SafetensorError) as error:  # read-only, full, or without locks
        logger.info("each worker has its own bfloat16 weights: %s", error)
        return weights


def _found(file: Path, made_of: str) -> dict[str, torch.Tensor] | None:
    try:
        stored, metadata = _read(file)
        if metadata.get(OF) == made_of and metadata.get(SHA256) == as_run.digest(stored):
            return as_run.from_store(stored)
    except (OSError, RuntimeError, SafetensorError, ValueError):  # missing or damaged
        pass
    return None


def _write(stored: dict[str, torch.Tensor], made_of: str, file: Path) -> None:
    part = file.with_name(f".{file.name}")
    try:
        as_run.write(stored, {OF: made_of, SHA256: as_run.digest(stored)}, part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]))
