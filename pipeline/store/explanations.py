"""What Google's libraries and the network raise, in one line with its remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import GoogleAuthError, InvalidOperation, TransportError
from google.resumable_media import DataCorruption, InvalidResponse

from pipeline.shared.errors import CredentialsUnusable, PermissionMissing, PipelineError
from pipeline.shared.text import first_line, innermost
from pipeline.store.storage_uri import StorageUri

READER, WRITER = "roles/storage.objectViewer", "roles/storage.objectUser"

EMULATOR = "STORAGE_EMULATOR_HOST"  # what Google's libraries ask in the place of Cloud Storage
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
        raise explanation(error, uri, role) from None


def explanation(error: Exception, uri: StorageUri, role: str) -> PipelineError:
    bucket = f"gs://{uri.bucket}"
    if isinstance(error, RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, NETWORKS):
        said = innermost(error)
        remedy = "REQUESTS_CA_BUNDLE" if "certificate" in said.lower() else "HTTPS_PROXY and NO_PROXY"
        emulator = f"; {EMULATOR} is set, and leads elsewhere" if os.environ.get(EMULATOR) else ""
        return PipelineError(f"Cloud Storage cannot be reached ({said}): check the network, {remedy}{emulator}")
    status, said = _refusal(error)
    if status == 401 or isinstance(error, InvalidOperation):  # which is what anonymous credentials make of a 401
        return CredentialsUnusable(f"{bucket} is not public, and there are no Google Cloud credentials that it accepts")
    if isinstance(error, GoogleAuthError):
        return CredentialsUnusable(f"the Google Cloud credentials are not accepted ({first_line(error)})")
    if status in (404, 412):
        return PipelineError(f"something beneath {uri} was changed meanwhile ({said}): run this again")
    if status == 403 and (permission := re.search(r"storage\.(objects|buckets)\.\w+", said)):
        return PermissionMissing(permission[0], bucket, role)
    if status == 429 or (status == 403 and "quota" in said.lower()):
        return PipelineError(
            f"{bucket}: too many requests, or a full quota ({said}): try again later, or have the quota raised"
        )
    if status >= 500:
        return PipelineError(
            f"Cloud Storage keeps answering {status}: run this again in a few minutes, what has been sent stays there"
        )
    return PipelineError(f"{bucket}: Cloud Storage refuses ({status}): {said}")


def _refusal(error: Exception) -> tuple[int, str]:
    """The HTTP status, and what Cloud Storage itself says: {"error": {"message": …}}, or a body that is text."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or int(getattr(error, "code", None) or 0)
    try:
        said = response.json()["error"]["message"]  # type: ignore[union-attr]
    except (AttributeError, ValueError, LookupError, TypeError):
        said = str(error)
    return status, first_line(said)
