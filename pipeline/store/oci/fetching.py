"""A version on its way from a registry: every layer is what version.json makes of its file, or nothing is kept of it.

So there is no tar to unpack: what stands around the file is known before it comes. KServe's own storage initializer
makes the same files of it, but takes any tar of any size, and does not compare it with its digest.
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
    """Writes the files of a version into a folder that is made for them, laid out as KServe's /mnt/models.

    Raises PipelineError where a layer is another, or does not come to its end; OSError where one cannot be written.
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
    """Whether the layer is this file within its frame, and has its digest."""
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
