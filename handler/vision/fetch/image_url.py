"""Images by URL: off unless model-config.yaml lists the host; then a GET that is bounded in bytes, time and reach."""

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

REQUEST_FETCHES = 8  # at a time, of one request: it waits for its own, and never for those of another
HOST_FETCHES = 128  # at a time, of one host: only a resolver that does not answer, which no deadline ends, comes so far
LARGEST_IMAGES = 4  # the images of a request are together at most as large as so many of the largest
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"https": 443, "http": 80}

URL = re.compile(r"[!-\[\]-~]{1,8192}")  # printable ASCII without the backslash, which browsers take for a slash
TIMEOUTS = (TimeoutError, socket.timeout)  # one and the same only from Python 3.10 on


class PendingImage:
    """A fetch under way; `result()` waits for it, at most until its deadline."""

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
    """Fetches images from the allowed hosts. Hosts must be public, and no proxy of the environment is asked.

    allowed_hosts: `example.org` or `example.org:8443`, compared exactly.
    timeout_s: from the start of a fetch to its last byte, in seconds.
    max_bytes: the largest image that is read.
    allow_http: whether http:// is fetched as well as https://.
    resolve, check: how names become addresses, and which addresses may be connected to.
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
        """The fetches of one request, which share their bounds with no other request."""
        fetches = RequestFetches(self)
        self._requests.add(fetches)
        return fetches

    def start(self, url: object, place: str) -> PendingImage:
        """Begins to fetch a URL that is a request by itself: see `RequestFetches.start`."""
        return self.for_request().start(url, place)

    def cancel(self) -> None:
        """Ends what is still under way, of requests that were refused before they waited for it."""
        for fetches in list(self._requests):
            fetches.cancel()

    def parse(self, url: object, place: str) -> SplitResult:
        """A URL that may be fetched. Raises RequestError: 400 for what is no https URL, 403 for a host not allowed."""
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
        if parts.netloc.lower() not in self.slots:  # all of it: a name or a password before the host fits no entry
            raise UrlNotAllowed(place, "this server does not fetch images from that host")
        return parts

    def connect(self, url: SplitResult, deadline: float) -> socket.socket:
        """A connection to the URL's host, over TLS where it is https; the handshake is still to be done."""
        host = str(url.hostname)
        sock = connect(host, url.port or PORTS[url.scheme], deadline, self._resolve, self._check)
        if url.scheme == "http":
            return sock
        assert self._tls is not None
        return self._tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)


class RequestFetches:
    """The fetches of one request: a few at a time, and bounded together."""

    def __init__(self, fetcher: UrlFetcher) -> None:
        self._fetcher = fetcher
        self._pool = ThreadPoolExecutor(REQUEST_FETCHES, "fetch")  # starts threads as it needs them; they end with it
        self._lock = threading.Lock()  # for what follows
        self._sockets: set[socket.socket] = set()
        self._bytes_left = LARGEST_IMAGES * fetcher.max_bytes
        self._cancelled = False

    def start(self, url: object, place: str) -> PendingImage:
        """Begins to fetch. Raises RequestError: 400 for what is no https URL, 403 for a host that is not allowed."""
        parts = self._fetcher.parse(url, place)
        deadline = time.monotonic() + self._fetcher.timeout_s
        return PendingImage(self._pool.submit(self._fetch, parts, place, deadline), place, self._fetcher.timeout_s)

    def cancel(self) -> None:
        """Ends what is under way, and begins nothing more."""
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
            raise UrlFailed(place, "the connection broke off") from None
        except http.client.HTTPException:
            raise UrlFailed(place, "the host's answer is not HTTP") from None
        except Exception:  # ssl and socket have exceptions of their own, and so has a resolver
            raise UrlFailed(place, "the host cannot be reached") from None
        finally:
            slots.release()

    def _follow(self, url: SplitResult, place: str, deadline: float) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            remaining(deadline)  # it may have passed while others of the request were fetched
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
        """Where a redirect leads: what holds for the client's URL holds for this one too."""
        try:
            return self._fetcher.parse(urljoin(url.geturl(), location), place)
        except (RequestError, ValueError):
            raise UrlNotAllowed(place, "it redirects to where this server fetches no images") from None

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
    """Wakes the thread that waits for the socket."""
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which takes the TLS away from that thread
