"""A version of the model: the objects of KServe's TorchServe layout, their checksums, and a name derived from them.

In Cloud Storage it is a folder with that name, and `version.json` describes it:

    alexnet/60810fdba6d3/config/config.properties
    alexnet/60810fdba6d3/model-store/alexnet.mar
    alexnet/60810fdba6d3/model.sig                    if the archive was signed: a signature of the two
    alexnet/60810fdba6d3/version.json                 written last: without it, this is not a version yet

The archive is named after its model, `model-store/pets.mar`, and is alone there: TorchServe loads what it finds.
The name covers the signature like everything else: signed and unsigned, the same archive makes two versions. The name
is what scripts/package.sh prints, the folder's name, and the version that a server reports.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import google_crc32c

from pipeline.artefact.archive import content_version, weights_metadata
from pipeline.artefact.model import MODEL_NAME
from pipeline.shared.errors import NotADescription

VERSION_FILE = "version.json"
CONFIG = "config/config.properties"
STORE = "model-store"
SIGNATURE = "model.sig"

NAME = re.compile(r"[0-9a-f]{12}")
OBJECT_NAME = re.compile(r"[\w.=-]+(/[\w.=-]+)*")
ARCHIVE_NAME = re.compile(rf"{STORE}/(\w[\w.-]*)\.mar", re.ASCII)
TOOLS = ("torch", "torchserve", "torch-model-archiver", "safetensors")
BLOCK_BYTES = 1024 * 1024
MOST_BYTES = 8**11  # 8 GiB: the size of a file in a tar has eleven octal digits


def archive_of(model: str) -> str:
    """A model's name → the name of the object with its archive."""
    return f"{STORE}/{model}.mar"


ARCHIVE = archive_of(MODEL_NAME)  # of the default model


def archive_among(objects: Iterable[str]) -> str:
    """The archive's name among a version's objects. Raises ValueError unless it is alone in the store."""
    (archive,) = (name for name in objects if name.partition("/")[0] == STORE)
    if not ARCHIVE_NAME.fullmatch(archive):
        raise ValueError
    return archive


@dataclass(frozen=True)
class Checksums:
    """Of one object: `size` in bytes; `crc32c` in base64, as in Cloud Storage; `sha256` as hexadecimal digits."""

    size: int
    crc32c: str
    sha256: str

    @classmethod
    def of(cls, file: IO[bytes]) -> Checksums:
        """Reads an opened file to its end."""
        size, crc, sha256 = 0, 0, hashlib.sha256()
        while block := file.read(BLOCK_BYTES):
            size += len(block)
            crc = google_crc32c.extend(crc, block)
            sha256.update(block)
        return cls(size, crc32c_in_base64(crc), sha256.hexdigest())


@dataclass(frozen=True)
class Version:
    """`weights`: origin and sha256 of the weights in the archive. `tools`: the versions used to publish it."""

    objects: Mapping[str, Checksums]
    weights: Mapping[str, str]
    tools: Mapping[str, str]

    @property
    def name(self) -> str:
        return content_version({name: checksums.sha256 for name, checksums in self.objects.items()})

    @property
    def archive(self) -> str:
        """The name of the object with the archive."""
        return archive_among(self.objects)

    @property
    def signed(self) -> tuple[str, str]:
        """The names of the objects that a signature covers."""
        return CONFIG, self.archive

    @property
    def model(self) -> str:
        """The model's name."""
        return self.archive.removeprefix(f"{STORE}/").removesuffix(".mar")

    @property
    def size(self) -> int:
        """The total of its objects, in bytes."""
        return sum(checksums.size for checksums in self.objects.values())

    @property
    def origin(self) -> str:
        return self.weights["origin"]

    @property
    def trained(self) -> bool:
        return self.origin != "untrained"

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> Version:
        """The version that these files make: object names → files, among them the archive.

        Raises NotOurArchive if the archive is not one, OSError if a file cannot be read.
        """
        inside = weights_metadata(files[archive_among(files)])
        weights = {"origin": inside["weights"], "sha256": inside["sha256"]}
        objects = {}
        for name, path in files.items():
            with open(path, "rb") as file:
                objects[name] = Checksums.of(file)
        tools = {"python": platform.python_version()} | {tool: metadata.version(tool) for tool in TOOLS}
        return cls(objects, weights, tools)

    def to_json(self) -> bytes:
        content = {
            "version": self.name,
            "weights": dict(self.weights),
            "tools": dict(self.tools),
            "objects": {name: asdict(checksums) for name, checksums in sorted(self.objects.items())},
        }
        return (json.dumps(content, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Version:
        """Raises NotADescription, naming `where`, unless this describes a version consistently."""
        try:
            content = json.loads(text)
            objects = {_clean(name): _checksums(**entry) for name, entry in content["objects"].items()}
            weights = {key: _line(content["weights"][key]) for key in ("origin", "sha256")}
            tools = {_line(tool): _line(version) for tool, version in content["tools"].items()}
            version = cls(objects, weights, tools)
            if version.name != content["version"] or not set(version.signed) <= objects.keys():
                raise ValueError
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise NotADescription(where) from None
        return version

    def damage_in(self, directory: Path) -> str | None:
        """What is wrong with a copy of this version, as part of a sentence; None if it is complete and unchanged."""
        for name, checksums in self.objects.items():
            try:
                with open(directory / name, "rb") as file:
                    if Checksums.of(file) != checksums:
                        return f"{name} is not what was published"
            except FileNotFoundError:
                return f"{name} is missing"
            except OSError as error:
                return f"{name} cannot be read ({error.strerror})"
        return None


def crc32c_in_base64(crc: int) -> str:
    """In Cloud Storage's format: https://cloud.google.com/storage/docs/json_api/v1/objects#resource."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _clean(name: str) -> str:
    """Raises ValueError if a name would lead out of the folder that it is copied into."""
    if not OBJECT_NAME.fullmatch(name) or {".", ".."} & set(name.split("/")) or name == VERSION_FILE:
        raise ValueError
    return name


def _line(text: Any) -> str:
    """Raises ValueError unless the text prints as one line."""
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError
    return text


def _checksums(size: Any, crc32c: Any, sha256: Any) -> Checksums:
    if not isinstance(size, int) or not isinstance(crc32c, str) or not isinstance(sha256, str):
        raise TypeError
    if isinstance(size, bool) or not 0 <= size < MOST_BYTES:
        raise ValueError
    return Checksums(size, crc32c, sha256)
