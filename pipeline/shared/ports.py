"""The TCP ports of a server: which to take, and whether they can be had."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass, fields

from pipeline.shared.errors import PortUnusable

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int
    health: int

    @classmethod
    def starting_at(cls, port: int) -> Ports:
        """`port`, the next two for management and metrics, and any for gRPC and health, which nobody calls here."""
        return cls(port, port + 1, port + 2, *free_ports(3))

    @classmethod
    def any_free(cls) -> Ports:
        return cls(*free_ports(6))

    def check_free(self) -> None:
        """Raises PortUnusable naming the first port that is taken."""
        for field in fields(self):
            port = getattr(self, field.name)
            with socket.socket() as probe:
                # A port that was in use a moment ago is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((LOOPBACK, port))
                except OSError as error:
                    why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                    raise PortUnusable(port, field.name, why) from None


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind((LOOPBACK, 0))
        return [opened.getsockname()[1] for opened in sockets]
