"""A small HTTP server of our own, for the kubelet and for Prometheus."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server.errors import NotServed

CONNECTIONS = 64


class SmallServer(ThreadingHTTPServer):
    """If there are too many connections, the oldest is closed, so that nobody can block the others."""

    request_queue_size = CONNECTIONS  # connections waiting to be accepted

    def __init__(self, host: str, port: int, connection: type[BaseHTTPRequestHandler], variable: str) -> None:
        """variable: the one that sets the port. Raises NotServed if the port is taken."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        try:
            super().__init__((host, port), connection)
        except OSError as error:
            raise NotServed(f"cannot listen on port {port} ({error.strerror}): set {variable} to another") from None

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks up the host's name, which may take seconds
        self.server_name, self.server_port = "", self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            oldest = self._open.pop(0) if len(self._open) > CONNECTIONS else None
        if oldest:
            with suppress(OSError):  # it has already ended
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Does not log clients that disconnect."""


class Connection(BaseHTTPRequestHandler):
    """One connection."""

    timeout = 5  # seconds, for a client that connects and says nothing

    def log_message(self, *_: object) -> None:
        pass
