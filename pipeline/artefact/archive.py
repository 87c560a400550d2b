"""The .mar: TorchServe's model archive. The same inputs give the same file, byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import MANIFEST_FILE_NAME, MAR_INF, ModelExportUtils

from pipeline.artefact.contents import WEIGHTS_FILE, read_metadata
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import NotOurArchive, naming
from pipeline.shared.whole import written_whole

HANDLER = "entry.py"
CONFIG_FILE = "model-config.yaml"
NOTICE_FILE = "NOTICE"  # credits the authors of the labels and the architecture
SUMS_FILE = "SHA256SUMS"  # of all other entries; handler/vision/worker/integrity.py checks it first

# Nothing else from handler/ goes into the archive: no caches, no editors' backup files.
HANDLER_FILES = (HANDLER, "vision/**/*.py", CONFIG_FILE)

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
CREATED_ON = "01/01/1980 00:00:00"  # the same, in torch-model-archiver's format
MODE = 0o100644 << 16  # a plain file, rw-r--r--, where zip keeps Unix modes
VERSION_DIGITS = 12
BLOCK_BYTES = 1024 * 1024

MANIFEST = f"{MAR_INF}/{MANIFEST_FILE_NAME}"
MOST_MANIFEST_BYTES = 65_536  # it has a few hundred, but an archive could unpack it to any size
NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # of any model that was ever packed; models/NAME.yaml allows fewer

T = TypeVar("T")


@dataclass(frozen=True)
class Archive:
    """A finished archive; `size` is in bytes. `version` is in its manifest, and only for TorchServe.

    It derives from the archive's contents, so it covers neither settings nor signature. A published version's name is
    therefore another one: Version.name.
    """

    path: Path
    version: str
    size: int
    sha256: str


def build_archive(handler_directory: Path, contents: Path, name: str, output: Path) -> Archive:
    """Packs the handler and the files of `contents` into `output`, which is replaced only once the new archive is
    complete.

    contents: a folder with what pipeline/artefact/contents.py writes. name: the model's.
    Raises OSError if it cannot be written; `output` is then unchanged.
    """
    entries: dict[str, bytes | Path] = {file.name: file for file in contents.iterdir()}
    entries[NOTICE_FILE] = CHECKOUT / NOTICE_FILE
    for pattern in HANDLER_FILES:
        names = (file.relative_to(handler_directory) for file in handler_directory.glob(pattern))
        seen = [each for each in names if not any(part.startswith(".") for part in each.parts)]
        entries |= {each.as_posix(): handler_directory / each for each in seen}
    sha256s = {each: sha256_of(file) for each, file in entries.items() if isinstance(file, Path)}
    version = content_version(sha256s)
    manifest_name, manifest_content = f"{MAR_INF}/{MANIFEST_FILE_NAME}", manifest(name, version)
    sha256s[manifest_name] = hashlib.sha256(manifest_content).hexdigest()
    entries |= {manifest_name: manifest_content, SUMS_FILE: sums(sha256s)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming(output):
        return Archive(output, version, *_write(entries, output))


def content_version(sha256s: Mapping[str, str]) -> str:
    """Names and the SHA-256 of their contents, as hexadecimal digits → a version, twelve such digits."""
    digest = hashlib.sha256()
    for name in sorted(sha256s):
        digest.update(f"{name} {sha256s[name]}\n".encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def sums(sha256s: Mapping[str, str]) -> bytes:
    """Names and their SHA-256, as hexadecimal digits → the text that sha256sum writes and checks."""
    return "".join(f"{sha256s[name]}  {name}\n" for name in sorted(sha256s)).encode()


def weights_metadata(archive: Path) -> dict[str, str]:
    """The metadata of the archive's weights, from `write_weights`: `weights`, their origin, and `sha256`.

    The manifest names their file: it has not had the same name in every release.
    Raises NotOurArchive if the archive is not ours, OSError if it cannot be read.
    """

    def read(opened: zipfile.ZipFile) -> dict[str, str]:
        with opened.open(str(_manifest_in(opened)["serializedFile"])) as weights:
            return read_metadata(weights)

    return _read(archive, read)


def model_name(archive: Path) -> str:
    """The model's name, as TorchServe finds it in the manifest. Raises as `weights_metadata`."""

    def read(opened: zipfile.ZipFile) -> str:
        name = _manifest_in(opened)["modelName"]
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError
        return name

    return _read(archive, read)


def _read(archive: Path, read: Callable[[zipfile.ZipFile], T]) -> T:
    try:
        with zipfile.ZipFile(archive) as opened:
            return read(opened)
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, TypeError, ValueError, RuntimeError):  # damage
        raise NotOurArchive(archive) from None


def _manifest_in(opened: zipfile.ZipFile) -> dict[str, object]:
    """The manifest's entry for the model. Raises one of the errors that `_read` catches."""
    with opened.open(MANIFEST) as file:
        said: dict[str, object] = json.loads(file.read(MOST_MANIFEST_BYTES))["model"]
    return said


def manifest(name: str, version: str) -> bytes:
    """The manifest that torch-model-archiver makes, with a fixed date."""
    config = ModelArchiverConfig(
        name, HANDLER, version, serialized_file=WEIGHTS_FILE, config_file=CONFIG_FILE, export_path=""
    )
    content = json.loads(ModelExportUtils.generate_manifest_json(config))
    content["createdOn"] = CREATED_ON
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _write(entries: Mapping[str, bytes | Path], output: Path) -> tuple[int, str]:
    """Writes a temporary file, then renames. Stored, not deflated: weights hardly compress. → size and SHA-256."""
    with written_whole(output) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            _add(archive, name, entries[name])
    return output.stat().st_size, sha256_of(output)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Copies in blocks: a file may have gigabytes, and is never entirely in memory."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = MODE
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with open(content, "rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, BLOCK_BYTES)
