"""GET /metrics, in Prometheus format: TorchServe's metrics and the front door's.

The families in FAMILIES are defined in envoy.yaml. Envoy counts integers in small units, which become seconds here,
and prefixes every name with its own.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from server.folder import Address
from server.small_server import Connection, SmallServer
from server.torchserve import LOOPBACK

TIMEOUT_S = 5
SCRAPES_AT_ONCE = 4
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Family(NamedTuple):
    """How a metric of Envoy is presented."""

    name: str
    help: str
    unit: int = 1  # how many of Envoy's units make one of ours


# By Envoy's name.
FAMILIES = {
    "envoy_door_requests": Family(
        "door_requests_total", "Requests, by the protocol of the predict call, the HTTP version and the status."
    ),
    "envoy_door_request": Family("door_request_seconds", "From a request's first byte to its answer's last.", 1000),
    "envoy_door_stage": Family(
        "door_stage_seconds",
        "Within a predict call: the wait for a worker, and the decoding and network of its batch.",
        1_000_000,
    ),
    "envoy_door_batch": Family(
        "door_batch_size", "For each predict call: the requests in its batch, including itself."
    ),
}
SAMPLE = re.compile(r"(envoy_door_[a-z]+?)(|_bucket|_sum|_count)(\{.*\})? (\S+)")
TYPE = re.compile(r"# TYPE (envoy_door_[a-z]+) (\w+)")
BOUND = re.compile(r'le="([\d.]+)"')


class MetricsServer(SmallServer):
    """Reads both sources at each scrape. One that does not answer is left out: the other's figures are still right."""

    def __init__(self, address: Address, sources: list[Callable[[], bytes]]) -> None:
        """Raises NotServed if the port is taken."""
        self.sources = sources
        self.room = threading.BoundedSemaphore(SCRAPES_AT_ONCE)
        super().__init__(address.host, address.port, Scrape, "TS_METRICS_ADDRESS")


class Scrape(Connection):
    """One connection."""

    server: MetricsServer

    def do_GET(self) -> None:  # noqa: N802  # http.server's name for it
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        with self.server.room:
            body = b"".join(_read(source) for source in self.server.sources)
        self.send_response(200)
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def of_torchserve(port: int) -> Callable[[], bytes]:
    """TorchServe's metrics; it listens on loopback."""

    def read() -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read()
        finally:
            connection.close()

    return read


def of_door(statistics: Callable[[], bytes]) -> Callable[[], bytes]:
    """Envoy's metrics, with our names and in seconds."""

    def read() -> bytes:
        return "".join(_told(line) + "\n" for line in statistics().decode().splitlines()).encode()

    return read


def _told(line: str) -> str:
    if (kind := TYPE.fullmatch(line)) and (family := FAMILIES.get(kind[1])):
        return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {kind[2]}"
    if (sample := SAMPLE.fullmatch(line)) and (family := FAMILIES.get(sample[1])):
        _, part, labels, value = sample.groups()
        if part == "_sum":
            value = f"{float(value) / family.unit:.9g}"
        bounded = BOUND.sub(lambda bound: f'le="{float(bound[1]) / family.unit:g}"', labels or "")
        return f"{family.name}{part}{bounded} {value}"
    return line


def _read(source: Callable[[], bytes]) -> bytes:
    with suppress(OSError, http.client.HTTPException):
        body = source()
        return body if body.endswith(b"\n") or not body else body + b"\n"
    return b""
