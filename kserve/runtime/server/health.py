"""The kubelet's probes: GET /startup, /ready and /live, from what is known: nobody loads the model with them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server.door import Door
from server.errors import NotServed
from server.model import Model

HEALTH_ADDRESS = os.environ.get("HEALTH_ADDRESS", "0.0.0.0")  # noqa: S104  # for the kubelet  # nosec B104
HEALTH_PORT = int(os.environ.get("HEALTH_PORT", "8079"))
HEALTH_CONNECTIONS = 64
READY_WITHIN_S = float(os.environ.get("READY_WITHIN_S", "60"))
LIVE_WITHIN_S = float(os.environ.get("LIVE_WITHIN_S", "180"))

Probes = Mapping[str, Callable[[], bool]]  # path → whether all is fine


def listen(model: Model, door: Door, stopping: threading.Event) -> HealthServer:
    """Raises NotServed where the port is taken."""
    probes = {
        "/startup": lambda: model.started and door.open,
        "/ready": lambda: model.answered_within(READY_WITHIN_S) and door.open and not stopping.is_set(),
        "/live": lambda: model.answered_within(LIVE_WITHIN_S),
    }
    try:
        return HealthServer((HEALTH_ADDRESS, HEALTH_PORT), probes)
    except OSError as error:
        raise NotServed(
            f"port {HEALTH_PORT} cannot be listened to ({error.strerror}): set HEALTH_PORT to another"
        ) from None


class HealthServer(ThreadingHTTPServer):
    """Of many connections the oldest makes room for the newest, so that a probe gets in, whoever else holds some."""

    request_queue_size = HEALTH_CONNECTIONS  # that wait to be accepted

    def __init__(self, address: tuple[str, int], probes: Probes) -> None:
        self.probes = probes
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        super().__init__(address, Health)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            oldest = self._open.pop(0) if len(self._open) > HEALTH_CONNECTIONS else None
        if oldest:
            with suppress(OSError):  # it has ended by itself
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """A client that breaks off is no line in the log."""


class Health(BaseHTTPRequestHandler):
    """One connection."""

    server: HealthServer
    timeout = 5  # seconds, for a client that connects and says nothing

    def do_GET(self) -> None:
        probe = self.server.probes.get(self.path)
        if probe is None:
            self.send_error(404)
            return
        self.send_response(200 if probe() else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
