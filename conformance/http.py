"""HTTP for the checks: an answer to each request, or a Failed that says there was none."""

from __future__ import annotations

import http.client
import io
import json
import select
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx

from conformance.checking import Failed, NoServer, must

MOST_SHOWN = 160  # characters of an answer


@dataclass(frozen=True)
class Reply:
    """headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Raises Failed if it is not JSON."""
        try:
            return json.loads(self.body, parse_constant=_no_number)
        except ValueError as error:
            raise Failed(f"expected JSON ({error}); got {self}") from None

    @property
    def object(self) -> dict[str, Any]:
        """Raises Failed if it is not a JSON object."""
        value = self.json
        must(isinstance(value, dict), "a JSON object", self)
        return dict(value)

    def __str__(self) -> str:
        text = " ".join(self.body[: 4 * MOST_SHOWN].decode(errors="replace").split())
        return f"{self.status} {text[:MOST_SHOWN]}{'…' if len(text) > MOST_SHOWN else ''}".rstrip()


class Http:
    """A server. url: the part before the protocol's paths. headers: of each call. timeout_s: for each answer.

    Each call has its own connection: a server may close one at any time, which is no fault.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = httpx.URL(url)
        self.headers = dict(headers)
        self.timeout_s = timeout_s
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(timeout=timeout_s, trust_env=False, headers=self.headers, limits=limits)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, method: str = "GET") -> Reply:
        return self._ask(method, path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """headers: replace `Content-Type: application/json`."""
        return self._ask("POST", path, body, {"Content-Type": "application/json"} if headers is None else headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """Raises NoServer if nobody listens, Failed if no answer arrives."""
        try:
            answer = self._client.request(method, self._at(path), content=body, headers=dict(headers))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise NoServer(f"{self.url}: {error or 'no connection in time'}") from None
        except httpx.TimeoutException:
            raise Failed(f"expected an answer to {method} {path}; got none in {self.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise Failed(f"expected an answer to {method} {path}; got none: {error}") from None
        return Reply(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)

    def _at(self, path: str) -> httpx.URL:
        return self.url.copy_with(raw_path=(self.url.path.rstrip("/") + path).encode())

    # --- What a client library does not do ----------------------------------------------------------------------------

    def one_after_the_other(self, path: str, bodies: Iterable[bytes]) -> list[Reply]:
        """One connection for all, each sent once the previous one is answered. Fewer answers: it was closed."""
        replies = []
        with closing(self._connect()) as connection:
            stream = connection.makefile("rb")
            for body in bodies:
                try:
                    connection.sendall(self._head(path, len(body)) + body)
                    replies.append(_read(stream))
                except (OSError, http.client.HTTPException):
                    break
                if replies[-1].headers.get("connection", "").lower() == "close":
                    break
        return replies

    def pipelined(self, path: str, bodies: Iterable[bytes]) -> list[Reply]:
        """Sends all at once on one connection. Fewer answers: it was closed."""
        replies: list[Reply] = []
        questions = [self._head(path, len(body)) + body for body in bodies]
        with closing(self._connect()) as connection:
            stream = connection.makefile("rb")
            try:
                connection.sendall(b"".join(questions))
                while len(replies) < len(questions):
                    replies.append(_read(stream))
            except (OSError, http.client.HTTPException):
                pass
        return replies

    def long_body(self, path: str, pieces: Iterator[bytes], size: int) -> Reply | None:
        """Sends a body that may be refused before it has arrived. → None if the connection closed without an answer.

        Raises Failed if neither happens in time.
        """
        with closing(self._connect()) as connection:
            try:
                connection.sendall(self._head(path, size))
                for piece in pieces:
                    if select.select([connection], [], [], 0)[0]:
                        break  # there is an answer already
                    connection.sendall(piece)
            except TimeoutError:
                raise Failed(f"expected an answer; got none in {self.timeout_s:g} s") from None
            except OSError:
                pass  # closed for writing: an answer may still be there
            try:
                return _read(connection.makefile("rb"))
            except TimeoutError:
                raise Failed(f"expected an answer; got none in {self.timeout_s:g} s") from None
            except (OSError, http.client.HTTPException):
                return None

    def _connect(self) -> socket.socket:
        is_tls = self.url.scheme == "https"
        address = self.url.host, self.url.port or (443 if is_tls else 80)
        try:
            connection = socket.create_connection(address, self.timeout_s)
        except OSError as error:
            raise NoServer(f"{self.url}: {error}") from None
        if not is_tls:
            return connection
        return ssl.create_default_context().wrap_socket(connection, server_hostname=self.url.host)

    def _head(self, path: str, length: int) -> bytes:
        fields = {"Host": self.url.netloc.decode(), "Content-Type": "application/json", **self.headers}
        lines = [f"POST {self._at(path).raw_path.decode()} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def _no_number(name: str) -> None:
    """Python's json accepts numbers that RFC 8259 does not allow."""
    raise ValueError(f"{name} is not a JSON number")


class _Stream(http.client.HTTPResponse):
    """http.client's reader, for one answer of several on a stream."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        super().__init__(self, method="POST")  # type: ignore[arg-type]  # it only calls makefile

    def makefile(self, _: str) -> io.BufferedReader:
        return self._stream

    def _close_conn(self) -> None:
        """Does nothing: what follows this answer is still to be read."""


def _read(stream: Any) -> Reply:
    """Raises OSError or HTTPException if there is no complete answer."""
    answer = _Stream(stream)
    answer.begin()
    body = answer.read()
    return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)
