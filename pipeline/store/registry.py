"""The versions in Cloud Storage: which there are, and whether they are whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from google.api_core.exceptions import NotFound
from google.cloud import storage

from pipeline.artefact.version import NAME, VERSION_FILE, Version
from pipeline.shared.errors import ChangedObject, LostObject, NotAVersion, PipelineError, StrayObject, UnfinishedVersion
from pipeline.store.bucket import CONNECTIONS, is_as_told, list_blobs, objects_under, start_of_names
from pipeline.store.explanations import READER, explained
from pipeline.store.storage_uri import StorageUri

MOST_VERSION_BYTES = 1_000_000  # of a version.json: a hostile one could be of any size


@dataclass(frozen=True)
class Published:
    """A version in Cloud Storage; `time` is when it was completed."""

    uri: StorageUri
    version: Version
    time: datetime


def version_name(uri: StorageUri) -> str:
    """The name of the version that a storageUri leads to. Raises NotAVersion where it leads to none."""
    name = uri.path.rpartition("/")[2]
    if not NAME.fullmatch(name):
        raise NotAVersion(uri, listed=uri.parent if re.fullmatch("[0-9a-f]+", name) else uri)
    return name


def read_version(client: storage.Client, uri: StorageUri) -> Version:
    """The version at a storageUri, whose objects are there: all of them, no others, and as they were published.

    Raises PipelineError where that is not so. Their content is not read: it is their CRC32C that is compared.
    """
    version_name(uri)
    with explained(uri, READER):
        objects = objects_under(client, uri)
        if VERSION_FILE not in objects:
            raise UnfinishedVersion(uri)
        version = read_description(objects.pop(VERSION_FILE), uri)
    for name in sorted(objects.keys() | version.objects.keys()):
        if name not in version.objects:
            raise StrayObject(uri / name)
        if name not in objects:
            raise LostObject(uri / name)
        if not is_as_told(objects[name], version.objects[name]):
            raise ChangedObject(uri / name)
    return version


def read_description(blob: storage.Blob, uri: StorageUri) -> Version:
    """The version.json of a version, which is the one that its URI says. Raises PipelineError where it is not."""
    if blob.size > MOST_VERSION_BYTES:
        raise PipelineError(f"{uri / VERSION_FILE} has {blob.size} bytes, more than any description of a version")
    version = Version.from_json(blob.download_as_bytes(), str(uri / VERSION_FILE))
    if version.name != version_name(uri):
        raise PipelineError(f"{uri / VERSION_FILE} is of another version, {version.name}: use the URI of that one")
    return version


def list_versions(client: storage.Client, prefix: StorageUri, warn: Callable[[str], None]) -> list[Published]:
    """All complete versions right beneath a URI, the newest first.

    `warn` is called with a sentence for each that cannot be read. Raises PipelineError where the bucket cannot be.
    """

    def published(blob: storage.Blob) -> Published | None:
        uri = StorageUri(prefix.bucket, blob.name.removesuffix(f"/{VERSION_FILE}"))
        try:
            version = read_description(blob, uri)
        except NotFound:  # deleted meanwhile
            return None
        except PipelineError as error:
            warn(str(error))
            return None
        return Published(uri, version, blob.time_created)

    start = start_of_names(prefix)
    described = re.compile(f"{re.escape(start)}{NAME.pattern}/{re.escape(VERSION_FILE)}")
    with explained(prefix, READER), ThreadPoolExecutor(CONNECTIONS) as pool:
        blobs = list_blobs(client, prefix, match_glob=f"{start}*/{VERSION_FILE}")
        found = pool.map(published, [blob for blob in blobs if described.fullmatch(blob.name)])
        return sorted(filter(None, found), key=lambda version: version.time, reverse=True)
