"""Spans for the stages of a request, for a collector that accepts OTLP over HTTP.

Envoy creates and sends the span of the request itself. For the stages below it (queue, decode and forward) it writes a
line per request into a pipe (envoy.yaml), and this module sends them. A slow or missing collector only costs spans.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from server import log
from server.background import in_background
from server.errors import NotServed

# https://opentelemetry.io/docs/specs/otel/protocol/exporter/
ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
SERVICE, SHARE = "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER_ARG"
ROUTE = "/v1/traces"
TAKEN = ("http/protobuf", "http/json")  # Envoy sends the first, this module the second; collectors accept both

STAGES = ("queue", "decode", "forward")  # one after the other
SAMPLED = 0x01  # https://www.w3.org/TR/trace-context/#sampled-flag
INTERNAL = 1  # https://github.com/open-telemetry/opentelemetry-proto, SpanKind

MOST_WAITING = 2048  # requests
MOST_SENT = 512
EVERY_S = 1
SEND_TIMEOUT_S = 5
FLUSH_TIMEOUT_S = 2
COMPLAIN_EVERY_S = 60


class Collector(NamedTuple):
    """Where spans go, and their service name."""

    host: str
    port: int
    path: str
    service: str
    share: float  # of requests without a trace; for others, the sender has decided

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


def collector() -> Collector | None:
    """The collector from OpenTelemetry's environment variables; None: no spans.

    Raises NotServed if they are invalid.
    """
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return None
    protocol = os.environ.get(PROTOCOL) or TAKEN[0]
    if protocol not in TAKEN:
        raise NotServed(f"{PROTOCOL}={protocol}: spans are sent over HTTP, usually to port 4318: expected {TAKEN[0]}")
    host, port, path = _parts(endpoint)
    return Collector(host, port, path.rstrip("/") + ROUTE, os.environ.get(SERVICE) or "torchserve", _share())


def _parts(endpoint: str) -> tuple[str, int, str]:
    with suppress(ValueError):
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and parts.hostname and not parts.username:
            return parts.hostname, parts.port or 80, parts.path
    raise NotServed(f"{ENDPOINT} is not like http://collector:4318 (for TLS, run a collector next to the server)")


def _share() -> float:
    said = os.environ.get(SHARE) or "1"
    with suppress(ValueError):
        share = float(said)
        if 0 <= share <= 1:
            return share
    raise NotServed(f"{SHARE}={said} is not a share of requests from 0 to 1")


class Spans:
    """Reads the pipe and sends, in the background, until it is stopped."""

    def __init__(self, pipe: Path, collector: Collector) -> None:
        self._collector = collector
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._complained = -math.inf
        os.mkfifo(pipe, 0o600)
        # Also for writing, so that the pipe stays open when Envoy is restarted.
        self._pipe = os.fdopen(os.open(pipe, os.O_RDWR), "r+b", buffering=0)
        in_background(self._read)
        self._sending = in_background(self._send)

    def stop(self) -> None:
        """Sends what was written, if the collector accepts it soon."""
        self._pipe.write(b"\n")
        self._sending.join(FLUSH_TIMEOUT_S)

    def _read(self) -> None:
        with open(self._pipe.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if line == b"\n":
                    break
                with suppress(ValueError, queue.Full):  # an incomplete line; a slow collector
                    self._waiting.put_nowait(json.loads(line))
        self._waiting.put(None)

    def _send(self) -> None:
        for lines in self._batches():
            spans: list[dict[str, Any]] = []
            for line in lines:
                with suppress(ValueError, LookupError, TypeError, AttributeError):  # an incomplete line
                    spans += _spans(line)
            if not spans:
                continue
            try:
                self._post(_request(self._collector.service, spans))
            except (OSError, http.client.HTTPException) as error:
                self._complain(error)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """Lines that arrive within a second of the first."""
        while (line := self._waiting.get()) is not None:
            lines, until = [line], time.monotonic() + EVERY_S
            while len(lines) < MOST_SENT:
                try:
                    line = self._waiting.get(timeout=max(0, until - time.monotonic()))
                except queue.Empty:
                    break
                if line is None:
                    yield lines
                    return
                lines.append(line)
            yield lines

    def _post(self, body: bytes) -> None:
        """Raises OSError or HTTPException if it is not accepted."""
        connection = http.client.HTTPConnection(self._collector.host, self._collector.port, timeout=SEND_TIMEOUT_S)
        try:
            connection.request("POST", self._collector.path, body, {"Content-Type": "application/json"})
            if (status := connection.getresponse().status) >= 300:
                raise OSError(None, f"answer {status}")
        finally:
            connection.close()

    def _complain(self, error: OSError | http.client.HTTPException) -> None:
        now = time.monotonic()
        if now - self._complained < COMPLAIN_EVERY_S:
            return
        self._complained = now
        what = getattr(error, "strerror", None) or type(error).__name__
        log.say("WARNING", f"the collector {self._collector.url} accepts no spans ({what}): they are lost")


def _spans(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans of one line from the pipe. Its times are in µs; `traceparent` is the request's span, if any."""
    if not line["traceparent"]:
        return []
    _, trace, parent, flags = line["traceparent"].split("-")
    if not int(flags, 16) & SAMPLED:
        return []
    spans, start = [], int(line["start_us"])
    for stage in STAGES:
        end = start + int(line[stage])
        span = {
            "traceId": trace,
            "spanId": os.urandom(8).hex(),
            "parentSpanId": parent,
            "name": stage,
            "kind": INTERNAL,
        }
        spans.append(span | {"startTimeUnixNano": f"{start}000", "endTimeUnixNano": f"{end}000"})
        start = end
    spans[-1]["attributes"] = [{"key": "batch.size", "value": {"intValue": str(int(line["batch"]))}}]
    return spans


def _request(service: str, spans: list[dict[str, Any]]) -> bytes:
    """https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding"""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    scoped = [{"scope": {"name": "stages"}, "spans": spans}]
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}).encode()
