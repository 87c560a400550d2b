"""A version as an OCI artefact, byte for byte.

It has an image manifest, an image configuration, and a layer for each file: a plain tar with only this file, under
`models/`, where KServe looks. version.json is first; the objects follow in the order of their names:

    models/version.json · models/config/config.properties · models/model-store/alexnet.mar · models/model.sig

All of it follows from version.json and the layers' digests, so the same version is the same artefact, whoever makes it,
and anything else is not a version. The tars are not compressed: weights hardly shrink, and a download is then exactly
as large as what is written. The image contains no programs, so it cannot be run.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefact.version import BLOCK_BYTES, VERSION_FILE, Version

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
ARTEFACT_TYPE = "application/vnd.torchserve-alexnet.version"

FOLDER = "models"
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)  # of a tar


@dataclass(frozen=True)
class Blob:
    """`size` in bytes; `digest` begins with `sha256:`."""

    digest: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> Blob:
        return cls(digest_of(content), len(content))


@dataclass(frozen=True)
class Frame:
    """A layer without its file: `head` is before it, `tail` after it. `size` is the file's, in bytes."""

    head: bytes
    size: int
    tail: bytes

    @classmethod
    def around(cls, name: str, size: int) -> Frame:
        """name: of an object of a version."""
        entry = tarfile.TarInfo(f"{FOLDER}/{name}")  # owned by root, dated 1970
        entry.size = size
        return cls(entry.tobuf(tarfile.GNU_FORMAT), size, bytes(-size % BLOCK) + END)

    @property
    def layer_size(self) -> int:
        return len(self.head) + self.size + len(self.tail)

    def read(self, file: Path) -> Iterator[bytes]:
        """The layer with a file, in blocks. A file of another size makes a different layer."""
        yield self.head
        with open(file, "rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                yield block
        yield self.tail

    def blob(self, file: Path) -> Blob:
        """Raises OSError if the file cannot be read."""
        sha256 = hashlib.sha256()
        for block in self.read(file):
            sha256.update(block)
        return Blob(f"sha256:{sha256.hexdigest()}", self.layer_size)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def description_layer(version_json: bytes) -> bytes:
    frame = Frame.around(VERSION_FILE, len(version_json))
    return frame.head + version_json + frame.tail


def described_by(layer: bytes) -> bytes | None:
    """The version.json in a layer, or None if `description_layer` would not make this layer."""
    try:
        size = tarfile.TarInfo.frombuf(layer[:BLOCK], "utf-8", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError):
        return None
    found = layer[BLOCK : BLOCK + max(size, 0)]
    return found if description_layer(found) == layer else None


def frames_of(version: Version) -> dict[str, Frame]:
    """The names of a version's objects, in the order of their layers → the frames of these layers."""
    return {name: Frame.around(name, version.objects[name].size) for name in sorted(version.objects)}


@dataclass(frozen=True)
class Artefact:
    """layers: the objects' layers by name. `description`: the first layer, with version.json."""

    version: Version
    layers: Mapping[str, Blob]

    @property
    def description(self) -> bytes:
        return description_layer(self.version.to_json())

    @property
    def config(self) -> bytes:
        """Container runtimes reject images for other systems, so it names one; a model fits any."""
        digests = [blob.digest for blob in self._blobs]
        return _json(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}}
        )

    @property
    def manifest(self) -> bytes:
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": ARTEFACT_TYPE,
                "config": _descriptor(CONFIG_TYPE, Blob.of(self.config)),
                "layers": [_descriptor(LAYER_TYPE, blob) for blob in self._blobs],
                "annotations": {
                    "org.opencontainers.image.title": self.version.model,
                    "org.opencontainers.image.version": self.version.name,
                },
            }
        )

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def _blobs(self) -> Sequence[Blob]:
        return [Blob.of(self.description), *(self.layers[name] for name in sorted(self.layers))]


def artefact_of(version: Version, files: Mapping[str, Path]) -> Artefact:
    """files: object names → the files that `version` describes. Raises OSError if one cannot be read."""
    return Artefact(version, {name: frame.blob(files[name]) for name, frame in frames_of(version).items()})


def _descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
