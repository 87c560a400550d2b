"""Cloud Storage: getting in, and the objects of a folder."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from functools import cache
from urllib.parse import urlsplit

from google.api_core.exceptions import NotFound
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.artefact.version import Checksums
from pipeline.shared.errors import CredentialsUnusable, NoBucket, PipelineError
from pipeline.shared.http import is_loopback
from pipeline.shared.terminal import warn
from pipeline.shared.text import first_line
from pipeline.store.explanations import EMULATOR, GOOGLES, NETWORKS
from pipeline.store.storage_uri import StorageUri

# What Google's library makes of an answer that is none of Cloud Storage's: it looks for what should be there.
STRANGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
CONNECTIONS = 4  # at a time

# Later calls are tried for two minutes; whether Cloud Storage can be reached at all is said sooner.
FIRST_CALL = {"retry": DEFAULT_RETRY.with_timeout(20), "timeout": (5, 60)}  # seconds, to connect and to read


def connect(for_writing: bool = False) -> storage.Client:
    """A client with Application Default Credentials; for reading, without any where there are none, as KServe does.

    Where an emulator on another machine is asked instead, a line says so. Raises CredentialsUnusable where there are
    none to write with.
    """
    _tell_of_emulator(os.environ.get(EMULATOR, ""))
    logging.getLogger("google.auth").setLevel(logging.CRITICAL)  # it warns of what it tries before it gives up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # credentials of `gcloud auth` work, whatever it says of quotas
        try:
            return storage.Client(project=None)  # no call here is about a project
        except (GoogleAuthError, ValueError, AttributeError, TypeError) as error:  # the latter of malformed files
            if not (isinstance(error, DefaultCredentialsError) and "default credentials were not found" in str(error)):
                problem = f"the Google Cloud credentials cannot be used ({first_line(error.args[0])})"
                raise CredentialsUnusable(problem, os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")) from None
            if for_writing:
                raise CredentialsUnusable("no Google Cloud credentials") from None
            return storage.Client.create_anonymous_client()


@cache  # once is enough
def _tell_of_emulator(said: str) -> None:
    """It is for tests; set by accident, it leads everything that is published elsewhere. Raises PipelineError."""
    if not said:
        return
    try:
        url = urlsplit(said if "://" in said else f"//{said}")
    except ValueError:
        raise PipelineError(f"{EMULATOR} is set, and what it says is no URL: unset it") from None
    if not is_loopback(url.hostname or ""):  # of which nobody wonders where it is
        warn(f"{EMULATOR} is set: gs:// means {url.netloc.rpartition('@')[2]}, and not Cloud Storage")


def objects_under(client: storage.Client, uri: StorageUri) -> dict[str, storage.Blob]:
    """The objects beneath a URI, by what their names have after it. Folders that are objects, as the console makes
    them, are not counted; raises PipelineError where one would lead KServe's downloader elsewhere."""
    blobs = list_blobs(client, uri)
    for blob in blobs:
        if ".." in blob.name.split("/"):
            raise PipelineError(f"gs://{uri.bucket}/{blob.name} leads out of its folder: delete it")
    return {blob.name.removeprefix(start_of_names(uri)): blob for blob in blobs if not blob.name.endswith("/")}


def is_as_told(blob: storage.Blob, checksums: Checksums) -> bool:
    return (blob.size, blob.crc32c) == (checksums.size, checksums.crc32c)


def list_blobs(client: storage.Client, uri: StorageUri, **options: str) -> list[storage.Blob]:
    """Whatever lies beneath a URI. Raises NoBucket."""
    return list(blobs_under(client, uri, **options))


def blobs_under(client: storage.Client, uri: StorageUri, **options: str) -> Iterator[storage.Blob]:
    """The same, as they come: a thousand with each call.

    Raises NoBucket, or PipelineError where what answers is not Cloud Storage.
    """
    try:
        for blob in client.list_blobs(uri.bucket, prefix=start_of_names(uri), **FIRST_CALL, **options):
            if not isinstance(blob.size, int) or not isinstance(blob.name, str) or not blob.time_created:
                raise TypeError
            yield blob
    except NotFound:
        raise NoBucket(uri) from None
    except STRANGE as error:
        if isinstance(error, (*GOOGLES, *NETWORKS)):
            raise
        raise PipelineError(
            f"what answers for gs://{uri.bucket} is not Cloud Storage: check HTTPS_PROXY, and {EMULATOR}"
        ) from None


def start_of_names(uri: StorageUri) -> str:
    """Of the objects beneath a URI."""
    return f"{uri.path}/" if uri.path else ""
