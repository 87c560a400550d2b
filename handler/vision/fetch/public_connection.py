"""A connection to a public host: its name is resolved once, every address is checked, and no wait exceeds a deadline.

We connect to the addresses that were checked: it does not matter if the name resolves differently a moment later.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import Any, Callable
from urllib.parse import SplitResult

# Like socket.getaddrinfo: family, kind, protocol, canonical name, address. Tests substitute their own.
Resolve = Callable[..., Sequence[tuple[int, int, int, str, tuple[Any, ...]]]]

# IPv6 has one block of global addresses. Outside it are ::1, link-local, site-local, unique local, multicast, and the
# forms that wrap an IPv4 address: ::ffff:0:0/96 (mapped), ::/96, and 64:ff9b::/96 (NAT64).
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")

# Non-public networks that `is_global` lets through in at least one of the Python versions that we support.
NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments; the metadata server of Oracle's cloud
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's WireServer: a public address, but reachable from inside a virtual machine
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]


class NotPublic(Exception):
    """The host has an address that is not public."""


def is_public(address: str) -> bool:
    """Whether the address (`203.0.113.7`, `2001:db8::1`) belongs to a host on the internet."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip not in GLOBAL_IPV6:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in network for network in NOT_PUBLIC))


def connect(host: str, port: int, deadline: float, resolve: Resolve, check: Callable[[str], bool]) -> socket.socket:
    """A TCP connection to the first of the host's addresses that answers.

    Raises NotPublic if `check` refuses any of the addresses, OSError, and TimeoutError or socket.timeout.
    """
    found = resolve(host, port, type=socket.SOCK_STREAM)
    if not all(check(address[0]) for *_, address in found):
        raise NotPublic
    problem = OSError("no address")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining(deadline) / (len(found) - index))  # a silent address leaves time for the next
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise problem


PORT = 80  # unused, since we are connected; without it, http.client would look for a port in an IPv6 address


def get(sock: socket.socket, url: SplitResult, deadline: float) -> http.client.HTTPResponse:
    """Requests the URL over the connection → the response, with its header already read.

    The caller closes the socket. Raises OSError, http.client.HTTPException, and TimeoutError or socket.timeout.
    """
    connection = http.client.HTTPConnection(str(url.hostname), PORT)
    connection.auto_open = 0  # never connects on its own
    connection.sock = _TimedSocket(sock, deadline)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {
        "Host": url.netloc,
        "User-Agent": "torchserve-alexnet",  # some hosts refuse requests without one
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def remaining(deadline: float) -> float:
    """Seconds until the deadline (of time.monotonic). Raises TimeoutError when it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _TimedSocket:
    """The part of a socket that http.client uses. The socket's own timeout would restart with every byte received."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(remaining(self._deadline))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._deadline))

    def close(self) -> None:
        """http.client closes its socket before the body is read; the body still needs it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(remaining(self._deadline))
        return self._sock.recv_into(buffer)
