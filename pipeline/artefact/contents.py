"""The files of a classifier in an archive, next to the handler: its program, weights, classes and facts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pipeline.artefact.file_kind import MOST_HEADER_BYTES
from pipeline.artefact.model import Model

if TYPE_CHECKING:  # torch takes seconds, and reading an archive's metadata does not need it
    from pipeline.artefact.program import Program

PROGRAM_FILE = "program.json"
WEIGHTS_FILE = "weights.safetensors"
INT8_PROGRAM_FILE = "int8.json"  # if there is an int8 network too
INT8_WEIGHTS_FILE = "int8.safetensors"
CLASSES_FILE = "classes.json"
MODEL_FILE = "model.yaml"
PROOF_FILE = "proof.json"

MOST_FACTS_BYTES = 65_536  # usually a few hundred


def write_contents(program: Program, origin: str, model: Model, folder: Path) -> None:
    """Writes everything except the proof and what depends on it (`write_facts`). Equal inputs give equal files.

    origin: of the weights, in words. folder: must exist.
    """
    (folder / PROGRAM_FILE).write_bytes(program.graph)
    write_weights(program.tensors, origin, folder / WEIGHTS_FILE)
    classes = json.dumps(model.classes, ensure_ascii=False, indent=0)
    (folder / CLASSES_FILE).write_text(classes + "\n", encoding="utf-8")


def write_facts(model: Model, bfloat16: bool, folder: Path, int8: bool = False) -> None:
    """bfloat16: whether its answers are right in bfloat16. int8: whether there is an int8 network."""
    facts = {
        "name": model.name,
        "architecture": archived_architecture(model),
        "classes": CLASSES_FILE,
        "preprocessing": asdict(model.preprocessing),
        "bfloat16": bfloat16,
        "int8": int8,
    }
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")


def archived_architecture(model: Model) -> str:
    """The architecture; a file's without this machine's folders."""
    return model.architecture.rpartition("/")[2]


def architecture_in(archive: Path) -> str | None:
    """The architecture that an archive names; None if there is no archive, or it names none."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(MODEL_FILE) as facts:
            return str(yaml.safe_load(facts.read(MOST_FACTS_BYTES))["architecture"])
    except (OSError, zipfile.BadZipFile, yaml.YAMLError, LookupError, TypeError, ValueError):
        return None


def write_weights(tensors: Mapping[str, np.ndarray], origin: str, file: Path) -> None:
    """Its metadata has `weights` (their origin) and `sha256` (of the arrays' bytes, in the order of their names).

    Raises OSError if it cannot be written.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    try:
        save_file(dict(tensors), file, {"weights": origin, "sha256": digest.hexdigest()})
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):  # such as a full disk
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from None
        raise
    _sort_metadata(file)


def read_metadata(file: IO[bytes]) -> dict[str, str]:
    """The metadata that `write_weights` wrote. Raises ValueError if there is none."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(min(length, MOST_HEADER_BYTES)))["__metadata__"]
        return {"weights": str(metadata["weights"]), "sha256": str(metadata["sha256"])}
    except (struct.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError("no weights of ours") from error


def _sort_metadata(file: Path) -> None:
    """safetensors writes its metadata in random order. Sorts its keys, which keeps the header's length."""
    with open(file, "r+b") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(ordered) != length:
            raise AssertionError("the safetensors header changed its length")
        opened.seek(8)
        opened.write(ordered)
