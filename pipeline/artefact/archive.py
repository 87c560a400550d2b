"""The .mar: TorchServe's model archive, identical byte for byte whenever it is built from the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import MANIFEST_FILE_NAME, MAR_INF, ModelExportUtils

from pipeline.artefact.model import MODEL, MODEL_NAME, Model
from pipeline.artefact.weights import Weights, read_metadata, to_safetensors
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import NotOurArchive, naming

HANDLER = "entry.py"
WEIGHTS_FILE = f"{MODEL_NAME}.safetensors"
MODEL_FILE = "model.yaml"
CONFIG_FILE = "model-config.yaml"
NOTICE_FILE = "NOTICE"  # whose labels and architecture these are
SUMS_FILE = "SHA256SUMS"  # of all other entries; handler/vision/worker/integrity.py checks it first

# Beside them, nothing of handler/ goes into the archive: no caches, no editor's leftovers.
HANDLER_FILES = (HANDLER, "vision/**/*.py", CONFIG_FILE)

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
CREATED_ON = "01/01/1980 00:00:00"  # the same, as torch-model-archiver writes it
MODE = 0o100644 << 16  # a plain file, rw-r--r--, where zip keeps Unix modes
VERSION_DIGITS = 12


@dataclass(frozen=True)
class Archive:
    """A finished archive; `size` is in bytes. `version` is what its manifest says to TorchServe, and nobody else.

    It derives from what is in the archive, so it knows neither settings nor signature, and cannot be the name of what
    is published: that is Version.name.
    """

    path: Path
    version: str
    size: int
    sha256: str


def build_archive(handler_directory: Path, weights: Weights, output: Path, model: Model = MODEL) -> Archive:
    """Packs handler, model and weights into `output`, which is replaced only once the new archive is complete.

    Raises OSError where it cannot be written; what was there before then stays.
    """
    entries = {
        f"{model.name}.safetensors": to_safetensors(weights),
        MODEL_FILE: model.file.read_bytes(),
        model.labels.name: model.labels.read_bytes(),
        NOTICE_FILE: (CHECKOUT / NOTICE_FILE).read_bytes(),
    }
    for pattern in HANDLER_FILES:
        names = (file.relative_to(handler_directory) for file in handler_directory.glob(pattern))
        seen = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        entries |= {name.as_posix(): (handler_directory / name).read_bytes() for name in seen}
    sha256s = {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}
    version = content_version(sha256s)
    manifest_name, manifest_content = f"{MAR_INF}/{MANIFEST_FILE_NAME}", manifest(model.name, version)
    sha256s[manifest_name] = hashlib.sha256(manifest_content).hexdigest()
    entries |= {manifest_name: manifest_content, SUMS_FILE: sums(sha256s)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming(output):
        return Archive(output, version, *_write(entries, output))


def content_version(sha256s: Mapping[str, str]) -> str:
    """Names → the SHA-256 of what has that name, as hexadecimal digits; all of it → a version, twelve such digits."""
    digest = hashlib.sha256()
    for name in sorted(sha256s):
        digest.update(f"{name} {sha256s[name]}\n".encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def sums(sha256s: Mapping[str, str]) -> bytes:
    """Names → SHA-256 as hexadecimal digits; all of it → the text that sha256sum writes, and checks."""
    return "".join(f"{sha256s[name]}  {name}\n" for name in sorted(sha256s)).encode()


def weights_metadata(archive: Path) -> dict[str, str]:
    """What `to_safetensors` wrote into the archive's weights: `weights`, their origin, and `sha256`.

    Raises NotOurArchive where this is none of ours, OSError where it cannot be read.
    """
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(WEIGHTS_FILE) as weights:
            metadata = read_metadata(weights)
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, ValueError, RuntimeError):  # any kind of damage
        raise NotOurArchive(archive) from None
    return metadata


def manifest(name: str, version: str) -> bytes:
    """The manifest as torch-model-archiver makes it, with a fixed date."""
    weights_file = f"{name}.safetensors"
    config = ModelArchiverConfig(
        name, HANDLER, version, serialized_file=weights_file, config_file=CONFIG_FILE, export_path=""
    )
    content = json.loads(ModelExportUtils.generate_manifest_json(config))
    content["createdOn"] = CREATED_ON
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _write(entries: dict[str, bytes], output: Path) -> tuple[int, str]:
    """Writes beside `output`, then renames. Stored, not deflated: weights hardly compress. Returns size and SHA-256."""
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(entries):
                    entry = zipfile.ZipInfo(name, EPOCH)
                    entry.external_attr = MODE
                    archive.writestr(entry, entries[name])
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, output)
        except BaseException:
            os.unlink(file.name)
            raise
    return output.stat().st_size, sha256_of(output)
