"""A website on loopback, with pages written by the test."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.in_a_thread import in_a_thread

Page = Callable[[BaseHTTPRequestHandler], None]


class Website(ThreadingHTTPServer):
    """A server on loopback, over TLS where it has a context.

    pages: how each path is answered, whatever query it has. asked: the paths that clients asked for.
    headers: those of the last request.
    """

    daemon_threads = False  # server_close() waits for them

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        self.headers: Message = Message()
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_port}"
        if context:  # handshakes happen in the visit's own thread, so that none delays the next
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """Clients may leave at any time."""

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Adds a static page. Returns its URL."""

        def page(visit: BaseHTTPRequestHandler) -> None:
            visit.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                visit.send_header(name, value)
            visit.end_headers()
            visit.wfile.write(body)

        self.pages[path] = page
        return self.url + path


class _Visit(BaseHTTPRequestHandler):
    server: Website

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers = self.headers
        pages = self.server.pages
        pages[self.path if self.path in pages else self.path.partition("?")[0]](self)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_website(context: ssl.SSLContext | None = None) -> Iterator[Website]:
    with in_a_thread(Website(context)) as site:
        yield site


@pytest.fixture
def website(user_environment: None) -> Iterator[Website]:
    with running_website() as site:
        yield site
