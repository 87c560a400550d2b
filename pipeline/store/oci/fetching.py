"""Pulls a version from a registry. Every layer must be the tar that version.json implies, or nothing is kept.

So no tar is unpacked: the bytes around the file are known in advance. KServe's own storage initializer writes the same
files, but accepts any tar of any size, and does not check its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.artefact.version import VERSION_FILE
from pipeline.shared.errors import PipelineError
from pipeline.store.oci.layout import Artefact, Blob, Frame, frames_of
from pipeline.store.oci.registry import Registry


def fetch(registry: Registry, artefact: Artefact, directory: Path) -> None:
    """Writes the files of a version into a new folder, laid out like KServe's /mnt/models.

    Raises PipelineError if a layer is different or incomplete, OSError if a file cannot be written.
    """
    directory.mkdir(parents=True)
    for name, frame in frames_of(artefact.version).items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with registry.blob(artefact.layers[name]) as blocks:
            if not _written(blocks, artefact.layers[name], frame, file):
                raise PipelineError(
                    f"{registry.uri}: the layer with {name} is not what was published: publish it again"
                )
    (directory / VERSION_FILE).write_bytes(artefact.version.to_json())


def _written(blocks: Iterator[bytes], blob: Blob, frame: Frame, file: Path) -> bool:
    """Whether the layer is a file within this frame, and has the right digest."""
    sha256, around, begin = hashlib.sha256(), bytearray(), len(frame.head)
    end, at = begin + frame.size, 0
    with open(file, "xb") as written:
        for block in blocks:
            sha256.update(block)
            first, last = max(begin - at, 0), max(end - at, 0)  # of the file, within this block
            written.write(block[first:last])
            around += block[:first] + block[max(last, first) :]
            at += len(block)
            if not (frame.head + frame.tail).startswith(bytes(around)):
                return False
    return f"sha256:{sha256.hexdigest()}" == blob.digest
