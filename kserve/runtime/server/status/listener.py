"""Serves the front door: HTTP on a Unix socket."""

from __future__ import annotations

import http
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_UNIX
from typing import Any

from server.errors import NotServed
from server.model import Model
from server.status.answers import Answer, Answers, error
from server.status.documents import Documents
from server.status.limits import answers_v1_alone, read_limits

IMAGE = "SERVING_IMAGE"  # the variable that serving-runtime.yaml fills
CONNECTIONS = 32  # at a time; the front door has half as many
OWNER_ALONE = 0o600


class StatusServer(ThreadingHTTPServer):
    """Beyond CONNECTIONS at a time, up to `request_queue_size` wait to be accepted."""

    address_family = AF_UNIX
    request_queue_size = 128

    def __init__(
        self,
        path: Path,
        name: str,
        version: str,
        model: Model,
        stopping: threading.Event,
        archive: Path | None = None,
        image: str = "",
    ) -> None:
        """Raises NotServed if the socket cannot be made.

        path: of the socket, which is made here.
        name, version: the model's, as in its archive; version may be empty.
        archive: its file, which has the limits of a request; without it, /openapi.json states none.
        image: the one that the server runs from, if the deployment states it.
        """
        documents = Documents(name, version, read_limits(archive), answers_v1_alone(archive))
        self.answers = Answers(name, version, model, stopping, documents, image)
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__(str(path), Connection)  # type: ignore[arg-type]  # typeshed knows of ports alone
        except OSError as reason:
            raise NotServed(
                f"cannot listen on {path} ({reason.strerror or reason}): set TMPDIR to another folder"
            ) from None

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks up the host's name
        self.server_name, self.server_port = "status", 0
        Path(str(self.server_address)).chmod(OWNER_ALONE)  # before anything can connect

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started, which would have released it
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, *_: object) -> None:
        """Does not log clients that disconnect."""


class Connection(BaseHTTPRequestHandler):
    """One request per connection: HTTP/1.0, so that nothing sent after it is taken for another request."""

    server: StatusServer
    timeout = 5  # seconds, for a client that connects and says nothing
    default_request_version = "HTTP/1.0"  # so that malformed headers get an answer with headers

    def do_GET(self) -> None:
        self._send(self.server.answers.get(self._target))

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """Called if there is no do_METHOD, or the headers are malformed. Its other arguments contain client text."""
        if code == http.HTTPStatus.NOT_IMPLEMENTED:
            self._send(self.server.answers.another_method(self._target))
        else:
            self._send(error(code, "request", "malformed HTTP"))

    @property
    def _target(self) -> str:
        """`path` would turn // into /."""
        return self.requestline.split()[1]

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        pass
