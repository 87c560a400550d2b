"""Cloud Storage: getting in, what is there, and what went wrong, in one line with its remedy."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, InvalidOperation, TransportError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.resumable_media import DataCorruption, InvalidResponse

from pipeline.artefact.version import NAME, VERSION_FILE, Checksums, Version
from pipeline.shared.errors import PipelineError
from pipeline.store.storage_uri import StorageUri

READER, WRITER = "roles/storage.objectViewer", "roles/storage.objectUser"
LOGIN = "run gcloud auth application-default login"

CONNECTIONS = 4  # at a time

# Later calls are tried for two minutes; whether Cloud Storage can be reached at all is said sooner.
FIRST_CALL = {"retry": DEFAULT_RETRY.with_timeout(20), "timeout": (5, 60)}  # seconds, to connect and to read

MOST_VERSION_BYTES = 1_000_000  # of a version.json: a hostile one could be of any size


@dataclass(frozen=True)
class Published:
    """A version in Cloud Storage; `time` is when it was completed."""

    uri: StorageUri
    version: Version
    time: datetime


def connect(for_writing: bool = False) -> storage.Client:
    """A client with Application Default Credentials; for reading, without any where there are none, as KServe does.

    Raises PipelineError where there are none to write with.
    """
    logging.getLogger("google.auth").setLevel(logging.CRITICAL)  # it warns of what it tries before it gives up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # credentials of `gcloud auth` work, whatever it says of quotas
        try:
            return storage.Client(project=None)  # no call here is about a project
        except (GoogleAuthError, ValueError, AttributeError, TypeError) as error:  # the latter of malformed files
            if not (isinstance(error, DefaultCredentialsError) and "default credentials were not found" in str(error)):
                file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
                remedy = f"correct or unset GOOGLE_APPLICATION_CREDENTIALS ({file})" if file else LOGIN
                raise PipelineError(
                    f"the Google Cloud credentials cannot be used ({_first_line(error.args[0])}): {remedy}"
                ) from None
            if for_writing:
                raise PipelineError(f"no Google Cloud credentials: {LOGIN}") from None
            return storage.Client.create_anonymous_client()


def version_name(uri: StorageUri) -> str:
    """The name of the version that a storageUri leads to. Raises PipelineError where it leads to none."""
    name = uri.path.rpartition("/")[2]
    if not NAME.fullmatch(name):
        raise PipelineError(
            f"{uri} is not a version, whose last part would be twelve hexadecimal digits: "
            f"scripts/publish.sh --list {_parent(uri) if re.fullmatch('[0-9a-f]+', name) else uri} shows what there is"
        )
    return name


def read_version(client: storage.Client, uri: StorageUri) -> Version:
    """The version at a storageUri, whose objects are there: all of them, no others, and as they were published.

    Raises PipelineError where that is not so. Their content is not read: it is their CRC32C that is compared.
    """
    version_name(uri)
    with explained(uri, READER):
        objects = objects_under(client, uri)
        if VERSION_FILE not in objects:
            raise PipelineError(
                f"{uri} has no {VERSION_FILE}: it was not published there, or not to its end; "
                f"scripts/publish.sh --list {_parent(uri)} shows what was"
            )
        version = read_description(objects.pop(VERSION_FILE), uri)
    for name in sorted(objects.keys() | version.objects.keys()):
        if name not in version.objects:
            raise PipelineError(f"{uri / name} is not part of this version: delete it, KServe would download it")
        if name not in objects:
            raise PipelineError(f"{uri / name} is missing: publish the same archive again to have it back")
        if not is_as_told(objects[name], version.objects[name]):
            raise PipelineError(
                f"{uri / name} is not what was published: delete it, and publish the same archive again"
            )
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

    start = _start_of_names(prefix)
    described = re.compile(f"{re.escape(start)}{NAME.pattern}/{re.escape(VERSION_FILE)}")
    with explained(prefix, READER), ThreadPoolExecutor(CONNECTIONS) as pool:
        blobs = _list(client, prefix, match_glob=f"{start}*/{VERSION_FILE}")
        found = pool.map(published, [blob for blob in blobs if described.fullmatch(blob.name)])
        return sorted(filter(None, found), key=lambda version: version.time, reverse=True)


def objects_under(client: storage.Client, uri: StorageUri) -> dict[str, storage.Blob]:
    """The objects beneath a URI, by what their names have after it. Folders that are objects, as the console makes
    them, are not counted; raises PipelineError where one would lead KServe's downloader elsewhere."""
    blobs = _list(client, uri)
    for blob in blobs:
        if ".." in blob.name.split("/"):
            raise PipelineError(f"gs://{uri.bucket}/{blob.name} leads out of its folder: delete it")
    return {blob.name.removeprefix(_start_of_names(uri)): blob for blob in blobs if not blob.name.endswith("/")}


def read_description(blob: storage.Blob, uri: StorageUri) -> Version:
    """The version.json of a version, which is the one that its URI says. Raises PipelineError where it is not."""
    if blob.size > MOST_VERSION_BYTES:
        raise PipelineError(f"{uri / VERSION_FILE} has {blob.size} bytes, more than any description of a version")
    version = Version.from_json(blob.download_as_bytes(), str(uri / VERSION_FILE))
    if version.name != version_name(uri):
        raise PipelineError(f"{uri / VERSION_FILE} is of another version, {version.name}: use the URI of that one")
    return version


def is_as_told(blob: storage.Blob, checksums: Checksums) -> bool:
    return (blob.size, blob.crc32c) == (checksums.size, checksums.crc32c)


def _list(client: storage.Client, uri: StorageUri, **options: str) -> list[storage.Blob]:
    try:
        return list(client.list_blobs(uri.bucket, prefix=_start_of_names(uri), **FIRST_CALL, **options))
    except NotFound:
        bucket = f"gs://{uri.bucket}"
        raise PipelineError(
            f"there is no bucket {bucket}: terraform -chdir=terraform/cluster output shows the one that Terraform "
            f"made, gcloud storage buckets create {bucket} makes another"
        ) from None


def _parent(uri: StorageUri) -> StorageUri:
    return StorageUri(uri.bucket, uri.path.rpartition("/")[0])


def _start_of_names(uri: StorageUri) -> str:
    return f"{uri.path}/" if uri.path else ""


# --- What went wrong --------------------------------------------------------------------------------------------------


GOOGLES = (GoogleAPICallError, RetryError, GoogleAuthError, InvalidResponse)
NETWORKS = (TransportError, requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)


@contextmanager
def explained(uri: StorageUri, role: str) -> Iterator[None]:
    """What Google's libraries raise from within, becomes a PipelineError. `role`: what the caller needs."""
    try:
        yield
    except DataCorruption:
        raise PipelineError(f"{uri}: something was damaged on its way: run this again") from None
    except (*GOOGLES, *NETWORKS) as error:
        raise PipelineError(explanation(error, uri, role)) from None


def explanation(error: Exception, uri: StorageUri, role: str) -> str:
    bucket = f"gs://{uri.bucket}"
    if isinstance(error, RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, NETWORKS):
        said = _innermost(error)
        remedy = "REQUESTS_CA_BUNDLE" if "certificate" in said.lower() else "HTTPS_PROXY and NO_PROXY"
        return f"Cloud Storage cannot be reached ({said}): check the network, {remedy}"
    status, said = _refusal(error)
    if status == 401 or isinstance(error, InvalidOperation):  # which is what anonymous credentials make of a 401
        return f"{bucket} is not public, and there are no Google Cloud credentials that it accepts: {LOGIN}"
    if isinstance(error, GoogleAuthError):
        return f"the Google Cloud credentials are not accepted ({_first_line(error)}): {LOGIN}"
    if status in (404, 412):
        return f"something beneath {uri} was changed meanwhile ({said}): run this again"
    if status == 403 and (permission := re.search(r"storage\.(objects|buckets)\.\w+", said)):
        return f"permission {permission[0]} is missing on {bucket}: ask its owner for the role {role}"
    if status == 429 or (status == 403 and "quota" in said.lower()):
        return f"{bucket}: too many requests, or a full quota ({said}): try again later, or have the quota raised"
    if status >= 500:
        return (
            f"Cloud Storage keeps answering {status}: run this again in a few minutes, what has been sent stays there"
        )
    return f"{bucket}: Cloud Storage refuses ({status}): {said}"


def _refusal(error: Exception) -> tuple[int, str]:
    """The HTTP status, and what Cloud Storage itself says: {"error": {"message": …}}, or a body that is text."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or int(getattr(error, "code", None) or 0)
    try:
        said = response.json()["error"]["message"]  # type: ignore[union-attr]
    except (AttributeError, ValueError, LookupError, TypeError):
        said = str(error)
    return status, _first_line(said)


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]  # Google's go on for paragraphs


def _innermost(error: BaseException) -> str:
    """What the network itself said: google-auth, requests and urllib3 each wrap that in words of their own."""
    while True:
        inner = [getattr(error, "reason", None), *reversed(error.args)]
        wrapped = next((found for found in inner if isinstance(found, BaseException)), None)
        if wrapped is None:
            words = next((argument for argument in reversed(error.args) if isinstance(argument, str)), error)
            return re.sub(r"^\w+\(host='([^']*)', port=(\d+)\): ", r"\1:\2: ", _first_line(words))
        error = wrapped
