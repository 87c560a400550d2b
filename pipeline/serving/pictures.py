"""Reads pictures, from files and from the web, as bytes. Reading is bounded in size and in time."""

from __future__ import annotations

import errno
import os
import re

import httpx

from pipeline.serving.trouble import trouble
from pipeline.shared.deadline import within
from pipeline.shared.errors import NotClassified
from pipeline.shared.http import http_client, proxy_of, trusted
from pipeline.shared.text import one_line

MOST_BYTES = 32 * 1024 * 1024  # twice the server's limit for a body
FETCH_TIMEOUT_S = 60
WAIT = httpx.Timeout(10, connect=5)  # seconds, for the next bytes
MOST_REDIRECTS = 5
AGENT = "torchserve-alexnet (scripts/predict.sh)"  # some sites refuse clients that do not name themselves
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(image: str) -> str | None:
    """For example `https` or `gs`, in lower case; None for a file."""
    found = SCHEME.match(image)
    return found[1].lower() if found else None


def read_file(image: str) -> bytes:
    """Raises NotClassified."""
    try:
        with open(image, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise NotClassified(image, os.strerror(getattr(error, "errno", None) or errno.EINVAL)) from None
    return bounded(image, content)


def fetch(image: str) -> bytes:
    """The content at an https URL. Raises NotClassified."""
    try:
        return within(FETCH_TIMEOUT_S, lambda: _fetch(image))
    except TimeoutError:
        raise NotClassified(image, f"not fetched: it did not arrive within {FETCH_TIMEOUT_S:g} s") from None


def _fetch(image: str) -> bytes:
    with http_client(WAIT, verify=trusted(), headers={"User-Agent": AGENT, "Accept-Encoding": "identity"}) as http:
        try:
            url = httpx.URL(image)
            for _ in range(MOST_REDIRECTS + 1):
                with http.stream("GET", url) as response:
                    if response.next_request is None:
                        return _body(image, response)
                    url = response.next_request.url
                if url.scheme != "https":
                    raise NotClassified(image, f"not fetched: it redirects to {url.scheme}://, not to https://")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:  # UnicodeError: an impossible name
            raise NotClassified(image, f"is not a URL: {error}") from None
        except httpx.RequestError as error:
            raise NotClassified(image, f"not fetched: {trouble(error, url, proxy_of(url)).what}") from None
    raise NotClassified(image, f"not fetched: more than {MOST_REDIRECTS} redirects")


def _body(image: str, response: httpx.Response) -> bytes:
    if not response.is_success:
        raise NotClassified(image, f"not fetched: {response.status_code} {one_line(response.reason_phrase)}".rstrip())
    if (packed := response.headers.get("content-encoding", "identity")) != "identity":
        raise NotClassified(image, f"not fetched: the host sends it compressed ({one_line(packed, 40)})")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > MOST_BYTES:
            break
    return bounded(image, bytes(content))


def bounded(image: str, content: bytes) -> bytes:
    """Raises NotClassified if the content is longer than MOST_BYTES."""
    if len(content) > MOST_BYTES:
        raise NotClassified(image, f"more than {MOST_BYTES} bytes")
    return content
