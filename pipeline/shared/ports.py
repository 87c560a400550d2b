"""The TCP ports of a server: which to use, and whether they are free."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from pipeline.shared.errors import PortUnusable

LOOPBACK = "127.0.0.1"
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")  # the first and last port that connections get
LEAST = 20_000  # below are well-known ports, of databases and the like
ATTEMPTS = 100
SHARE = "FREE_PORTS"  # FIRST-LAST: gives each of several processes that start servers at once its own ports
SERVING = ["-m", "pipeline", "serve"]  # after the interpreter and -P, as scripts/run has it


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
                    taken = error.errno == errno.EADDRINUSE
                    why = f"is taken{_by_whom(port)}" if taken else f"cannot be used ({error.strerror})"
                    raise PortUnusable(port, field.name, why) from None


def _by_whom(port: int) -> str:
    """The process that listens there, if that can be known: other users' processes cannot."""
    with suppress(psutil.Error, OSError):  # macOS tells only root
        for found in psutil.net_connections("tcp"):
            listens = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
            if found.pid and listens:
                return f" by {_told(psutil.Process(found.pid))}"
    return ""


def _told(process: psutil.Process) -> str:
    """The number and program of a process. For our own server, those of scripts/serve.sh, which would restart it."""
    for above in process.parents():
        if above.cmdline()[2:5] == SERVING:
            return f"pid {above.pid} (scripts/serve.sh)"
    return f"pid {process.pid} ({process.name()})"


def free_ports(count: int) -> list[int]:
    """Distinct ports that the system gives to nobody else: otherwise, a connection that is opened before the server
    starts could get one of them for its own end."""
    with ExitStack() as held:
        return [_taken(held.enter_context(socket.socket())) for _ in range(count)]


def _taken(opened: socket.socket) -> int:
    for port in (*(secrets.choice(_own()) for _ in range(ATTEMPTS) if _own()), 0):
        with suppress(OSError):  # the port is in use
            opened.bind((LOOPBACK, port))
            break
    return int(opened.getsockname()[1])


def _own() -> range:
    """The ports that no connection gets; empty if that is unknown, as on macOS."""
    with suppress(LookupError, ValueError):
        first, last = map(int, os.environ[SHARE].split("-"))
        return range(first, last + 1)
    with suppress(OSError, ValueError):
        return range(LEAST, int(EPHEMERAL.read_text().split()[0]))
    return range(0)
