"""Lists the versions in a registry, and checks whether they are complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pipeline.artefact.version import NAME, VERSION_FILE, Version
from pipeline.shared.errors import NotADescription, PipelineError
from pipeline.store.oci.layout import (
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Artefact,
    Blob,
    described_by,
    description_layer,
    digest_of,
    frames_of,
)
from pipeline.store.oci.registry import BlobMissing, BlobOfAnotherSize, Registry
from pipeline.store.oci.uri import DIGEST, OciUri
from pipeline.store.registry import MOST_VERSION_BYTES

MOST_DESCRIPTION_BYTES = len(description_layer(b"")) + MOST_VERSION_BYTES
PUBLISH_IT = "publish it with scripts/publish.sh, and copy it with tools that do not change it (crane, oras)"


class NotAnArtefact(PipelineError):
    """Not a version, or one that was changed."""

    def __init__(self, uri: OciUri, what: str) -> None:
        super().__init__(f"{uri} {what}: {PUBLISH_IT}")


def version_tag(uri: OciUri) -> str:
    """The name of the version at a URI. Raises PipelineError if the tag is not a version's."""
    if not NAME.fullmatch(uri.tag):
        raise PipelineError(
            f"{uri} is not a version, which has a tag of twelve hexadecimal digits: "
            f"scripts/publish.sh --list {uri.parent} shows what there is"
        )
    return uri.tag


def read_whole(registry: Registry, uri: OciUri) -> Artefact:
    """The version at a URI. Raises PipelineError if it is incomplete.

    Layers are not downloaded: the registry only has to say that it has them.
    """
    artefact = read_artefact(registry, uri)
    for name, blob in artefact.layers.items():
        if not registry.has(blob):
            raise PipelineError(
                f"{uri}: the layer with {name} is missing: publish the same archive again to restore it"
            )
    return artefact


def read_artefact(registry: Registry, uri: OciUri) -> Artefact:
    """Raises PipelineError if there is none, or it was changed since it was published."""
    found = find_artefact(registry, uri)
    if found is None:
        raise PipelineError(
            f"there is no version {uri.digest or uri.tag} in {uri.parent}: "
            f"scripts/publish.sh --list {uri.parent} shows what there is"
        )
    return found


def find_artefact(registry: Registry, uri: OciUri) -> Artefact | None:
    """The same, but None if there is none."""
    version_tag(uri)
    manifest = registry.manifest(uri.reference)
    if manifest is None:
        return None
    if uri.digest and digest_of(manifest) != uri.digest:
        raise NotAnArtefact(uri, "is not what its digest says")
    described, *layers = _layers(manifest, uri)
    version = _version(registry, described, uri)
    frames = frames_of(version)
    if len(layers) != len(frames):
        raise NotAnArtefact(uri, f"has {len(layers) + 1} layers, but its files need {len(frames) + 1}")
    for (name, frame), layer in zip(frames.items(), layers):
        if layer.size != frame.layer_size:
            raise NotAnArtefact(uri, f"has {layer.size} bytes for {name} instead of {frame.layer_size}")
    artefact = Artefact(version, dict(zip(frames, layers)))
    if artefact.manifest != manifest:
        raise NotAnArtefact(uri, "has a manifest that does not match its files")
    return artefact


def list_tags(registry: Registry, warn: Callable[[str], None]) -> list[tuple[OciUri, Version]]:
    """All versions of a repository, in the order of their names.

    `warn` is called with a sentence for each unreadable one. Raises PipelineError if the repository is unreadable.
    """
    found = []
    for tag in sorted(tag for tag in registry.tags() if NAME.fullmatch(tag)):
        try:
            artefact = find_artefact(registry, registry.uri.at(tag))
        except NotAnArtefact as error:
            warn(str(error))
            continue
        if artefact is not None:  # else it was deleted meanwhile
            found.append((registry.uri.at(tag, artefact.digest), artefact.version))
    return found


def _layers(manifest: bytes, uri: OciUri) -> list[Blob]:
    """The layers that a manifest names: at least one, all plain tars."""
    try:
        content: Any = json.loads(manifest)
        media_type = content.get("mediaType", "")
        if media_type == INDEX_TYPE or "manifests" in content:
            raise NotAnArtefact(uri, "is a list of images for several systems, not a version")
        if media_type != MANIFEST_TYPE:
            raise NotAnArtefact(uri, f"is of the type {media_type!r}, not a version")
        layers = [(str(layer["mediaType"]), Blob(layer["digest"], layer["size"])) for layer in content["layers"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NotAnArtefact(uri, "has a manifest that cannot be read") from None
    for media_type, blob in layers:
        if media_type != LAYER_TYPE:
            raise NotAnArtefact(uri, f"has a layer of the type {media_type!r}, but a version's are plain tars")
        if not isinstance(blob.size, int) or not isinstance(blob.digest, str) or not DIGEST.fullmatch(blob.digest):
            raise NotAnArtefact(uri, "has a layer without a size, or without a SHA-256")
    if not layers:
        raise NotAnArtefact(uri, "has no layers")
    return [blob for _, blob in layers]


def _version(registry: Registry, layer: Blob, uri: OciUri) -> Version:
    """The version that the first layer describes."""
    if not 0 < layer.size <= MOST_DESCRIPTION_BYTES:
        raise NotAnArtefact(
            uri, f"has a first layer of {layer.size} bytes, but a version begins with its {VERSION_FILE}"
        )
    try:
        with registry.blob(layer) as blocks:
            content = b"".join(blocks)
    except BlobMissing:
        raise NotAnArtefact(uri, "has no first layer any more") from None
    except BlobOfAnotherSize:
        raise NotAnArtefact(uri, "has a first layer of another size") from None
    if digest_of(content) != layer.digest:
        raise NotAnArtefact(uri, "has a first layer that was changed")
    description = described_by(content)
    if description is None:
        raise NotAnArtefact(uri, f"has a first layer that is not its {VERSION_FILE}")
    try:
        version = Version.from_json(description, VERSION_FILE)
    except NotADescription:
        raise NotAnArtefact(uri, f"has a {VERSION_FILE} that does not describe a version") from None
    if version.name != uri.tag:
        raise NotAnArtefact(uri, f"has a different version, {version.name}, under this tag")
    return version
