"""What an archive holds of a classifier, beside the handler: its program, weights, classes, and facts, as files."""

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

if TYPE_CHECKING:  # torch takes seconds, and whoever reads an archive's metadata does without
    from pipeline.artefact.program import Program

PROGRAM_FILE = "program.json"
WEIGHTS_FILE = "weights.safetensors"
INT8_PROGRAM_FILE = "int8.json"  # where there is an int8 network too
INT8_WEIGHTS_FILE = "int8.safetensors"
CLASSES_FILE = "classes.json"
MODEL_FILE = "model.yaml"
PROOF_FILE = "proof.json"

MOST_FACTS_BYTES = 65_536  # of a few hundred


def write_contents(program: Program, origin: str, model: Model, folder: Path) -> None:
    """All but the proof, and what that says: `write_facts`. Equal inputs give equal files.

    origin: of the weights, in words. folder: which is there.
    """
    (folder / PROGRAM_FILE).write_bytes(program.graph)
    write_weights(program.tensors, origin, folder / WEIGHTS_FILE)
    classes = json.dumps(model.classes, ensure_ascii=False, indent=0)
    (folder / CLASSES_FILE).write_text(classes + "\n", encoding="utf-8")


def write_facts(model: Model, bfloat16: bool, folder: Path, int8: bool = False) -> None:
    """bfloat16: whether it answers as it should when it is computed in that. int8: whether there is such a network."""
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
    """Of a file, without the folders of this machine."""
    return model.architecture.rpartition("/")[2]


def architecture_in(archive: Path) -> str | None:
    """What an archive says that it holds; None where there is none, or it says nothing."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(MODEL_FILE) as facts:
            return str(yaml.safe_load(facts.read(MOST_FACTS_BYTES))["architecture"])
    except (OSError, zipfile.BadZipFile, yaml.YAMLError, LookupError, TypeError, ValueError):
        return None


def write_weights(tensors: Mapping[str, np.ndarray], origin: str, file: Path) -> None:
    """Its metadata says `weights` (their origin) and `sha256` (of the arrays' bytes, in the order of their names).

    Raises OSError where it cannot be written.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    try:
        save_file(dict(tensors), file, {"weights": origin, "sha256": digest.hexdigest()})
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):  # a full disk, for one
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from None
        raise
    _sort_metadata(file)


def read_metadata(file: IO[bytes]) -> dict[str, str]:
    """The metadata that `write_weights` wrote. Raises ValueError where it is not there."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(min(length, MOST_HEADER_BYTES)))["__metadata__"]
        return {"weights": str(metadata["weights"]), "sha256": str(metadata["sha256"])}
    except (struct.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError("no weights of ours") from error


def _sort_metadata(file: Path) -> None:
    """safetensors writes its metadata in random order: the same length of header, with the keys in order."""
    with open(file, "r+b") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(ordered) != length:
            raise AssertionError("the safetensors header changed its length")
        opened.seek(8)
        opened.write(ordered)
