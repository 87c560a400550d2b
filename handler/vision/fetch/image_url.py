"""Images by URL: off unless model-config.yaml lists the host; then a GET with bounds on bytes, time and hosts."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from typing import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

from vision.errors import MalformedField, RequestError, TooLarge, UrlFailed, UrlNotAllowed, UrlTimedOut
from vision.fetch.image_response import read_image
from vision.fetch.public_connection import NotPublic, Resolve, connect, get, is_public, remaining

REQUEST_FETCHES = 8  # at a time per request: a request waits for its own fetches, never for another's
HOST_FETCHES = 128  # at a time per host: reached only if the resolver hangs, which no deadline can end
LARGEST_IMAGES = 4  # all images of a request together may be as large as this many of the largest
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"https": 443, "http": 80}

URL = re.compile(r"[!-\[\]-~]{1,8192}")  # printable ASCII without the backslash, which browsers treat as a slash
TIMEOUTS = (TimeoutError, socket.timeout)  # the same class from Python 3.10 on


class PendingImage:
    """A fetch under way; `result()` waits for it until its deadline."""

    def __init__(self, future: Future[bytes], place: str, timeout_s: float) -> None:
        self._future = future
        self._place = place
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def result(self) -> bytes:
        """The image's bytes. Raises RequestError: 403, 413, 502 or 504."""
        try:
            return self._future.result(timeout=max(0.0, self._deadline - time.monotonic()))
        except FutureTimeout:
            self._future.cancel()
            raise UrlTimedOut(self._place, self._timeout_s) from None


class UrlFetcher:
    """Fetches images from the allowed hosts. Hosts must be public. The environment's proxies are not used.

    allowed_hosts: `example.org` or `example.org:8443`, compared exactly.
    timeout_s: seconds from the start of a fetch to its last byte.
    max_bytes: the size of the largest image that is read.
    allow_http: whether http:// is allowed as well as https://.
    resolve, check: how names become addresses, and which addresses are allowed.
    """

    def __init__(
        self,
        allowed_hosts: list[str],
        timeout_s: float,
        max_bytes: int,
        allow_http: bool = False,
        resolve: Resolve = socket.getaddrinfo,
        check: Callable[[str], bool] = is_public,
    ) -> None:
        self.timeout_s = timeout_s
        self.max_bytes = max_bytes
        self.slots = {host.lower(): threading.Semaphore(HOST_FETCHES) for host in allowed_hosts}
        self._schemes = ("https", "http") if allow_http else ("https",)
        self._resolve = resolve
        self._check = check
        self._tls = _tls_context() if allowed_hosts else None
        self._requests: weakref.WeakSet[RequestFetches] = weakref.WeakSet()

    def for_request(self) -> RequestFetches:
        """The fetches of one request, with their own bounds."""
        fetches = RequestFetches(self)
        self._requests.add(fetches)
        return fetches

    def start(self, url: object, place: str) -> PendingImage:
        """Starts fetching a URL as a request of its own: see `RequestFetches.start`."""
        return self.for_request().start(url, place)

    def cancel(self) -> None:
        """Ends the fetches of requests that were refused before they waited for them."""
        for fetches in list(self._requests):
            fetches.cancel()

    def parse(self, url: object, place: str) -> SplitResult:
        """A URL that may be fetched. Raises RequestError: 400 if it is not https, 403 if its host is not allowed."""
        if not isinstance(url, str):
            raise MalformedField(place, "expected an https URL")
        if not self.slots:
            raise UrlNotAllowed(place, "this server fetches no images by URL")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise MalformedField(place, "expected an https URL") from None
        if not URL.fullmatch(url) or parts.scheme not in self._schemes or not parts.netloc:
            raise MalformedField(place, "expected an https URL")
        if parts.netloc.lower() not in self.slots:  # the whole of it: user:password@ in front matches no entry
            raise UrlNotAllowed(place, "this server does not fetch images from that host")
        return parts

    def connect(self, url: SplitResult, deadline: float) -> socket.socket:
        """A connection to the URL's host, with TLS for https. The handshake is left to the caller."""
        host = str(url.hostname)
        sock = connect(host, url.port or PORTS[url.scheme], deadline, self._resolve, self._check)
        if url.scheme == "http":
            return sock
        assert self._tls is not None
        return self._tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)


class RequestFetches:
    """The fetches of one request: a few at a time, with a common bound."""

    def __init__(self, fetcher: UrlFetcher) -> None:
        self._fetcher = fetcher
        self._pool = ThreadPoolExecutor(REQUEST_FETCHES, "fetch")  # starts threads on demand; they end with it
        self._lock = threading.Lock()  # guards the three below
        self._sockets: set[socket.socket] = set()
        self._bytes_left = LARGEST_IMAGES * fetcher.max_bytes
        self._cancelled = False

    def start(self, url: object, place: str) -> PendingImage:
        """Starts fetching. Raises RequestError: 400 if it is not an https URL, 403 if its host is not allowed."""
        parts = self._fetcher.parse(url, place)
        deadline = time.monotonic() + self._fetcher.timeout_s
        return PendingImage(self._pool.submit(self._fetch, parts, place, deadline), place, self._fetcher.timeout_s)

    def cancel(self) -> None:
        """Ends what is under way and starts nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._cancelled = True
            for sock in self._sockets:
                _break_off(sock)

    def _fetch(self, url: SplitResult, place: str, deadline: float) -> bytes:
        slots = self._fetcher.slots[url.netloc.lower()]
        if not slots.acquire(blocking=False):
            raise UrlFailed(place, "too many fetches from that host are unfinished")
        try:
            return self._follow(url, place, deadline)
        except RequestError:
            raise
        except NotPublic:
            raise UrlNotAllowed(place, "the host has an address that is not public") from None
        except TIMEOUTS:
            raise UrlTimedOut(place, self._fetcher.timeout_s) from None
        except ssl.SSLCertVerificationError:
            raise UrlFailed(place, "the host's certificate is not valid for it") from None
        except http.client.IncompleteRead:
            raise UrlFailed(place, "the connection was lost") from None
        except http.client.HTTPException:
            raise UrlFailed(place, "the host's answer is not HTTP") from None
        except Exception:  # ssl, socket and resolvers have many kinds
            raise UrlFailed(place, "the host cannot be reached") from None
        finally:
            slots.release()

    def _follow(self, url: SplitResult, place: str, deadline: float) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            remaining(deadline)  # it may have passed while the request's other images were fetched
            with self._connection(url, deadline) as sock, get(sock, url, deadline) as response:
                location = response.getheader("Location")
                if response.status not in REDIRECTS or location is None:
                    return read_image(response, place, self._fetcher.max_bytes, self._count)
            url = self._redirected(url, location, place)
        raise UrlFailed(place, f"more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _connection(self, url: SplitResult, deadline: float) -> Iterator[socket.socket]:
        with self._fetcher.connect(url, deadline) as sock:
            with self._lock:
                self._sockets.add(sock)
                if self._cancelled:
                    _break_off(sock)
            try:
                if isinstance(sock, ssl.SSLSocket):
                    sock.settimeout(remaining(deadline))
                    sock.do_handshake()
                yield sock
            finally:
                with self._lock:
                    self._sockets.discard(sock)

    def _redirected(self, url: SplitResult, location: str, place: str) -> SplitResult:
        """Where a redirect leads. The rules for the client's URL apply to this one too."""
        try:
            return self._fetcher.parse(urljoin(url.geturl(), location), place)
        except (RequestError, ValueError):
            raise UrlNotAllowed(place, "it redirects to a URL that this server may not fetch") from None

    def _count(self, size: int) -> None:
        with self._lock:
            self._bytes_left -= size
            if self._bytes_left < 0:
                raise TooLarge("instances", LARGEST_IMAGES * self._fetcher.max_bytes, "bytes by URL")


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()  # checks the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _break_off(sock: socket.socket) -> None:
    """Wakes the thread that is waiting on the socket."""
    with suppress(OSError):  # already closed
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which would take TLS away from that thread
