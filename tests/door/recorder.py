"""A server in TorchServe's place that accepts only unambiguous requests, and records them.

A request with the id `status-400` gets that status, and with `status-400-own` an answer in TorchServe's own format.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PATIENCE_S = 60
OWN = b'{"code": 500, "type": "InternalServerException", "message": "Worker died."}'
SENTENCE = 'instances[0].b64: “100 %” of it\nis not "\\u0041"'
REQUEST_LINE = re.compile(rb"POST (/v1/models/alexnet:(?:predict|explain)) HTTP/1\.1")
HEADER = re.compile(rb"([a-z][a-z0-9-]*): ([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
CHUNK = re.compile(rb"[0-9a-f]{1,8}")
# All headers that may pass the door (the contract), and those that HTTP/1.1 needs.
KNOWN = {
    *(b"host", b"content-length", b"transfer-encoding", b"content-type", b"x-client-content-type"),
    *(b"x-client-top-k", b"x-request-id", b"traceparent", b"x-request-start", b"x-door-request"),
    *(b"x-client-protocol", b"inference-header-content-length"),
}


@dataclass(frozen=True)
class Request:
    identity: str  # its x-request-id
    path: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Doubtful(Exception):
    """The bytes that arrived are ambiguous, or not a request."""


class Recorder(socketserver.ThreadingTCPServer):
    """A context manager. Each answer has the digest of its request's body."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # the door opens all its connections at once

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.doubts: list[str] = []
        self.port = 0
        self.held, self.go_on = b"", threading.Event()
        self.held_connections: set[Connection] = set()
        super().__init__(("127.0.0.1", 0), Connection)
        self.port = self.server_address[1]

    def __enter__(self) -> Recorder:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @contextmanager
    def holding(self, verb: bytes) -> Iterator[None]:
        """Requests to predict or explain are only answered when this ends."""
        self.held = verb
        try:
            yield
        finally:
            self.held = b""
            self.go_on.set()
            self.go_on = threading.Event()

    def waiting(self) -> list[bytes]:
        """For each held request: the bytes that have arrived after it on its connection."""
        return [each.behind() for each in list(self.held_connections)]

    def of(self, identity: str) -> list[Request]:
        return [request for request in self.requests if request.identity == identity]


class Connection(socketserver.StreamRequestHandler):
    server: Recorder

    def handle(self) -> None:
        try:
            while line := self.rfile.readline():
                request = self._request(line)
                self.server.requests.append(request)
                go_on = self.server.go_on
                if request.path.rpartition(b":")[2] == self.server.held:
                    self.server.held_connections.add(self)
                    go_on.wait(PATIENCE_S)
                    self.server.held_connections.discard(self)
                asked = re.fullmatch(r"status-(\d+)(-own)?", request.identity)
                if asked:
                    body = OWN if asked[2] else json.dumps({"error": SENTENCE}).encode()
                elif request.headers[b"x-client-protocol"] == b"grpc":
                    body = b'{"model_name": "alexnet", "id": "' + digest(request.body) + b'"}'
                else:
                    body = answer_to(request.body)
                status = asked[1] if asked else "200"
                head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                self.wfile.write(head.encode() + (b"\r\n" if body is OWN else b"x-stages: batch=1\r\n\r\n") + body)
        except Doubtful as doubt:
            self.server.doubts.append(str(doubt))
        except (ConnectionError, EOFError):
            pass  # the door gave it up, so it does not count

    def behind(self) -> bytes:
        """Bytes that have arrived but are unread: in the buffer or still in the socket."""
        self.connection.setblocking(False)
        try:
            return self.rfile.peek() if isinstance(self.rfile, io.BufferedReader) else b""
        finally:
            self.connection.setblocking(True)

    def _line(self, line: bytes) -> bytes:
        if not line.endswith(b"\n"):
            raise EOFError
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Doubtful(f"a line's end: {line[:100]!r}")
        return line[:-2]

    def _request(self, line: bytes) -> Request:
        said = self._line(line)
        asked = REQUEST_LINE.fullmatch(said)
        if not asked:
            raise Doubtful(f"request line: {said[:200]!r}")
        headers: dict[bytes, bytes] = {}
        while said := self._line(self.rfile.readline()):
            header = HEADER.fullmatch(said)
            if not header or header[1] in headers or header[1] not in KNOWN:
                raise Doubtful(f"header: {said[:200]!r}")
            headers[header[1]] = header[2] or b""
        return Request(headers.get(b"x-request-id", b"").decode(), asked[1], headers, self._body(headers))

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        if (length is None) == (coding is None) or coding not in (None, b"chunked"):
            raise Doubtful(f"lengths: {length!r} and {coding!r}")
        if length is not None:
            if not re.fullmatch(rb"0|[1-9][0-9]{0,9}", length):
                raise Doubtful(f"length: {length!r}")
            return self._exactly(int(length))
        body = b""
        while True:
            size = self._line(self.rfile.readline())
            if not CHUNK.fullmatch(size):
                raise Doubtful(f"chunk: {size[:100]!r}")
            body += self._exactly(int(size, 16))
            if self._line(self.rfile.readline()):
                raise Doubtful("a chunk's end, or a trailer")
            if int(size, 16) == 0:
                return body

    def _exactly(self, count: int) -> bytes:
        body = self.rfile.read(count)
        if len(body) < count:
            raise EOFError
        return body


def answer_to(body: bytes) -> bytes:
    return b'{"predictions": ["' + digest(body) + b'"]}'


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


class StatusRecorder(socketserver.ThreadingUnixStreamServer):
    """In the status server's place: reads only headers, like servers of GET requests, and records each first line."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.lines: list[bytes] = []
        self.status = 200
        super().__init__(path, StatusConnection)

    def __enter__(self) -> StatusRecorder:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class StatusConnection(socketserver.StreamRequestHandler):
    server: StatusRecorder

    def handle(self) -> None:
        try:
            while line := self.rfile.readline():
                self.server.lines.append(line)
                while self.rfile.readline().strip():
                    pass
                head = (
                    f"HTTP/1.1 {self.server.status} Said\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
                )
                self.wfile.write(head.encode() + b"{}")
        except ConnectionError:
            pass
