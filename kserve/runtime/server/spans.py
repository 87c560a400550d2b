"""Spans of what happens within a request, for a collector that takes OTLP over HTTP.

Envoy makes the span of the request and sends it itself. Beneath it are queue, decode and forward: of these it writes a
line for each request into a pipe (envoy.yaml), which this sends on. A collector that is slow or away costs spans alone.
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
TAKEN = ("http/protobuf", "http/json")  # Envoy sends the first, this the second, and a collector takes both

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
    """Where spans go, and how they are called."""

    host: str
    port: int
    path: str
    service: str
    share: float  # of the requests that come without a trace; of the others, their sender has decided

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


def collector() -> Collector | None:
    """What the environment says, in OpenTelemetry's names; None: no spans.

    Raises NotServed where that makes no sense.
    """
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return None
    protocol = os.environ.get(PROTOCOL) or TAKEN[0]
    if protocol not in TAKEN:
        raise NotServed(f"{PROTOCOL}={protocol}: spans are sent by HTTP, mostly to port 4318: {TAKEN[0]} is expected")
    host, port, path = _parts(endpoint)
    return Collector(host, port, path.rstrip("/") + ROUTE, os.environ.get(SERVICE) or "torchserve", _share())


def _parts(endpoint: str) -> tuple[str, int, str]:
    with suppress(ValueError):
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and parts.hostname and not parts.username:
            return parts.hostname, parts.port or 80, parts.path
    raise NotServed(f"{ENDPOINT} is not like http://collector:4318 (of TLS, a collector beside the server takes care)")


def _share() -> float:
    said = os.environ.get(SHARE) or "1"
    with suppress(ValueError):
        share = float(said)
        if 0 <= share <= 1:
            return share
    raise NotServed(f"{SHARE}={said} is not a share of the requests, from 0 to 1")


class Spans:
    """Reads the pipe and sends, in the background, until it is stopped."""

    def __init__(self, pipe: Path, collector: Collector) -> None:
        self._collector = collector
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._complained = -math.inf
        os.mkfifo(pipe, 0o600)
        # For writing too: so there is no end of it where Envoy ends and is started again.
        self._pipe = os.fdopen(os.open(pipe, os.O_RDWR), "r+b", buffering=0)
        in_background(self._read)
        self._sending = in_background(self._send)

    def stop(self) -> None:
        """What was written is sent, where the collector takes it soon."""
        self._pipe.write(b"\n")
        self._sending.join(FLUSH_TIMEOUT_S)

    def _read(self) -> None:
        with open(self._pipe.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if line == b"\n":
                    break
                with suppress(ValueError, queue.Full):  # a line that Envoy did not end; a collector that is slow
                    self._waiting.put_nowait(json.loads(line))
        self._waiting.put(None)

    def _send(self) -> None:
        for lines in self._batches():
            spans: list[dict[str, Any]] = []
            for line in lines:
                with suppress(ValueError, LookupError, TypeError, AttributeError):  # of which Envoy lost a part
                    spans += _spans(line)
            if not spans:
                continue
            try:
                self._post(_request(self._collector.service, spans))
            except (OSError, http.client.HTTPException) as error:
                self._complain(error)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """What has come within a second of the first."""
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
        """Raises OSError or HTTPException where it is not taken."""
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
        log.say("WARNING", f"the collector {self._collector.url} takes no spans ({what}): they are lost")


def _spans(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one line of the pipe; its times are µs, and `traceparent` is that of the request's span, where it has one."""
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
