"""Images by URL: off unless model-config.yaml lists the host; then a plain https GET, bounded in bytes and time."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any
from urllib.parse import urlsplit

from errors import MalformedField, RequestError, TooLarge, UrlFailed, UrlNotAllowed, UrlTimedOut

CHUNK_BYTES = 64 * 1024
THREADS = 8
TIMEOUTS = (TimeoutError, socket.timeout)  # one and the same only from Python 3.10 on


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would lead past the list of hosts."""

    def redirect_request(self, *_: Any) -> None:
        return None


class PendingImage:
    """A fetch under way; `result()` waits for it, at most until its deadline."""

    def __init__(self, future: Future[bytes], place: str, timeout_s: float) -> None:
        self._future = future
        self._place = place
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def result(self) -> bytes:
        """The image's bytes. Raises RequestError: 413, 502 or 504."""
        try:
            return self._future.result(timeout=max(0.0, self._deadline - time.monotonic()))
        except FutureTimeout:
            self._future.cancel()
            raise UrlTimedOut(self._place, self._timeout_s) from None


class UrlFetcher:
    """Fetches images from the allowed hosts, several at a time, so that a slow one holds up no other.

    allowed_hosts: `example.org` or `example.org:8443`, compared exactly.
    timeout_s: from the start of a fetch to its last byte, in seconds.
    max_bytes: the largest image that is read.
    """

    def __init__(self, allowed_hosts: list[str], timeout_s: float, max_bytes: int) -> None:
        self._allowed_hosts = {host.lower() for host in allowed_hosts}
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._opener = urllib.request.build_opener(_RefuseRedirects)
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="fetch")  # starts no thread yet

    def start(self, url: Any, place: str) -> PendingImage:
        """Begins to fetch. Raises RequestError: 400 for what is no https URL, 403 for a host that is not allowed."""
        if not isinstance(url, str):
            raise MalformedField(place, "expected an https URL")
        if not self._allowed_hosts:
            raise UrlNotAllowed(place, "this server fetches no images by URL")
        try:
            parts = urlsplit(url)
            host = parts.netloc.lower()
        except ValueError:
            raise MalformedField(place, "expected an https URL") from None
        if parts.scheme != "https" or not host:
            raise MalformedField(place, "expected an https URL")
        if host not in self._allowed_hosts:
            raise UrlNotAllowed(place, "this server does not fetch images from that host")
        deadline = time.monotonic() + self._timeout_s
        return PendingImage(self._pool.submit(self._fetch, url, place, deadline), place, self._timeout_s)

    def _fetch(self, url: str, place: str, deadline: float) -> bytes:
        try:
            return self._read(url, place, deadline)
        except RequestError:
            raise
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise UrlFailed(place, f"the host answered {error.code}") from None
        except TIMEOUTS:
            raise UrlTimedOut(place, self._timeout_s) from None
        except Exception as error:  # urllib, http.client, ssl and socket each have exceptions of their own
            if isinstance(getattr(error, "reason", None), TIMEOUTS):
                raise UrlTimedOut(place, self._timeout_s) from None
            raise UrlFailed(place, "the host cannot be reached") from None

    def _read(self, url: str, place: str, deadline: float) -> bytes:
        with self._opener.open(url, timeout=self._remaining(place, deadline)) as response:
            image = bytearray()
            while True:
                self._remaining(place, deadline)
                chunk = response.read1(CHUNK_BYTES)
                if not chunk:
                    break
                image += chunk
                if len(image) > self._max_bytes:
                    raise TooLarge(place, self._max_bytes, "bytes")
            if response.length:  # what Content-Length still promises
                raise UrlFailed(place, "the connection broke off")
            return bytes(image)

    def _remaining(self, place: str, deadline: float) -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise UrlTimedOut(place, self._timeout_s)
        return remaining
