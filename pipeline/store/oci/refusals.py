"""Explains a registry's refusals and network errors in one line, with a remedy."""

from __future__ import annotations

import json
from typing import Any

import httpx

from pipeline.shared.errors import PipelineError
from pipeline.shared.text import first_line, one_line
from pipeline.store.oci.uri import OciUri

READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"
GOOGLES = (".pkg.dev", ".gcr.io")
NETWORK = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


def unreachable(uri: OciUri, error: Exception) -> PipelineError:
    said = first_line(error) or type(error).__name__
    remedy = "SSL_CERT_FILE" if "certificate" in said.lower() else "HTTPS_PROXY and NO_PROXY"
    return PipelineError(
        f"the registry {uri.registry} cannot be reached ({said}): check its name, the network, {remedy}"
    )


def strange(uri: OciUri, what: str) -> PipelineError:
    return PipelineError(f"the server at {uri.registry} is not a registry ({what}): check its name and HTTPS_PROXY")


def refusal(uri: OciUri, status: int, body: bytes, for_writing: bool, user: str | None) -> PipelineError:
    """user: whose credentials were sent; None if there were none."""
    code, said = _told(body)
    if status == 401 or (status == 403 and user is None):
        login = f"docker login {uri.registry}"
        if _is_googles(uri):
            login = f"gcloud auth login, and gcloud auth configure-docker {uri.registry}"
        if user is None:
            return PipelineError(f"{uri.registry} requires credentials, but docker has none for it: run {login}")
        return PipelineError(f"{uri.registry} does not accept the credentials of {user}: run {login}")
    if status == 403:
        role = WRITER if for_writing else READER
        needed = f"the role {role}" if _is_googles(uri) else f"the right to {'push' if for_writing else 'pull'}"
        return PipelineError(f"{user} has no access to {uri.parent} ({said}): ask its owner for {needed}")
    if status == 404 and for_writing:
        making = ": gcloud artifacts repositories create makes it" if _is_googles(uri) else ": ask its owner for it"
        return PipelineError(f"{uri.registry} has no repository for {uri.repository} ({said}){making}")
    if code == "DIGEST_INVALID":
        return PipelineError(f"{uri}: something changed while it was being published: run this again")
    if status == 429:
        return PipelineError(f"{uri.registry}: too many requests ({said}): try again later")
    if status >= 500:
        return PipelineError(
            f"{uri.registry} answers {status} ({said}): run this again in a few minutes, what has been sent stays there"
        )
    return PipelineError(f"{uri.registry} refuses ({status}): {said}")


def _is_googles(uri: OciUri) -> bool:
    return uri.host == "gcr.io" or uri.host.endswith(GOOGLES)


def _told(body: bytes) -> tuple[str, str]:
    """The code and the message of a registry's error: {"errors": [{"code": …, "message": …}]}."""
    try:
        errors: Any = json.loads(body)["errors"]
        return str(errors[0].get("code") or ""), one_line(errors[0].get("message") or errors[0].get("code"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", one_line(body.decode(errors="replace"), 100) or "it said nothing"
