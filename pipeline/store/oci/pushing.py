"""Pushes a version to a registry: layers first, the tag last, never two versions under the same tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.artefact.version import Version
from pipeline.shared.errors import PipelineError
from pipeline.shared.progress import Progress
from pipeline.store.oci.layout import Artefact, Blob, artefact_of, digest_of, frames_of
from pipeline.store.oci.reading import NotAnArtefact, find_artefact
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri


@dataclass(frozen=True)
class Pushed:
    """`uri` has the digest, so it always means this content. `sent`: bytes. `new`: whether the tag is new."""

    uri: OciUri
    sent: int
    new: bool


def push_version(registry: Registry, version: Version, files: Mapping[str, Path], progress: Progress) -> Pushed:
    """Sends the missing parts of a version, and then tags it with its name.

    files: object names → the files that `version` describes.
    progress: called with the bytes sent so far, and the number that were missing.

    Raises PipelineError if the registry refuses, or has something else under the tag. Called again after an
    interruption, it does not resend complete layers.
    """
    uri = registry.uri.at(version.name)
    there = _there(registry, uri, version)
    artefact = artefact_of(there.version if there else version, files)
    if there and artefact.digest != there.digest:
        raise _Conflict(uri)
    sent = _send(registry, _sources(artefact, files), progress)
    if there is None:
        if _there(registry, uri, version) is None:  # another publisher may have been faster
            registry.put_manifest(version.name, artefact.manifest)
        kept = registry.manifest(version.name)
        if kept is None or digest_of(kept) != artefact.digest:
            raise _Conflict(uri)
    return Pushed(registry.uri.at(version.name, artefact.digest), sent, new=there is None)


def _there(registry: Registry, uri: OciUri, version: Version) -> Artefact | None:
    """The artefact under the tag, if it is this version, perhaps published with different tools."""
    try:
        there = find_artefact(registry, uri)
    except NotAnArtefact:
        raise _Conflict(uri) from None
    if there and there.version.objects != version.objects:
        raise _Conflict(uri)
    return there


class _Conflict(PipelineError):
    def __init__(self, uri: OciUri) -> None:
        super().__init__(
            f"{uri} already exists with other content and is never overwritten: "
            "delete it if nobody needs it, or publish to another repository"
        )


@dataclass(frozen=True)
class _Source:
    """name: for errors."""

    name: str
    blob: Blob
    read: Callable[[], Iterator[bytes]]


def _sources(artefact: Artefact, files: Mapping[str, Path]) -> Iterator[_Source]:
    """Everything except the manifest."""
    for name, content in (("version.json", artefact.description), ("the configuration", artefact.config)):
        yield _Source(name, Blob.of(content), partial(iter, [content]))
    for name, frame in frames_of(artefact.version).items():
        yield _Source(str(files[name]), artefact.layers[name], partial(frame.read, files[name]))


def _send(registry: Registry, sources: Iterable[_Source], progress: Progress) -> int:
    """Sends the missing blobs → their size in bytes."""
    missing = [source for source in sources if not registry.has(source.blob)]
    total, before = sum(source.blob.size for source in missing), 0
    for source in missing:
        registry.upload(source.blob, partial(_counted, source, before, total, progress))
        before += source.blob.size
    return total


def _counted(source: _Source, before: int, total: int, progress: Progress) -> Iterator[bytes]:
    """The blocks of a blob, never more bytes than the size sent to the registry."""
    size = 0
    for block in source.read():
        size += len(block)
        if size > source.blob.size:
            break
        yield block
        progress(before + size, total)
    if size != source.blob.size:
        raise PipelineError(f"{source.name} changed while it was being published: run this again")
