"""A collector of traces: OTLP over HTTP, in protobuf as Envoy sends it and in JSON."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.in_a_thread import in_a_thread


@dataclass(frozen=True)
class Span:
    """Times are in ns since the epoch; ids are hexadecimal."""

    trace: str
    id: str
    parent: str
    name: str
    start: int
    end: int
    service: str
    attributes: dict[str, str] = field(hash=False)


class Collector(ThreadingHTTPServer):
    """On loopback; records what it receives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Span] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of_trace(self, trace: str) -> dict[str, Span]:
        """Spans by name; a duplicate name is an error in the test."""
        found = [span for span in self.spans if span.trace == trace]
        assert len({span.name for span in found}) == len(found), found
        return {span.name: span for span in found}


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        length = self.headers["Content-Length"]
        body = self.rfile.read(int(length)) if length else b"".join(self._chunks())
        binary = self.headers["Content-Type"] == "application/x-protobuf"
        self.server.paths.add(self.path)
        self.server.spans += from_protobuf(body) if binary else from_json(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_: object) -> None:
        pass


def from_json(body: bytes) -> Iterator[Span]:
    """https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding"""
    for resource in json.loads(body)["resourceSpans"]:
        service = _attributes(resource["resource"]["attributes"])["service.name"]
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Span(
                    *(span["traceId"], span["spanId"], span["parentSpanId"], span["name"]),
                    *(int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]), service),
                    _attributes(span.get("attributes", [])),
                )


def _attributes(entries: list[dict[str, dict[str, str]]]) -> dict[str, str]:
    return {str(entry["key"]): str(next(iter(entry["value"].values()))) for entry in entries}


def from_protobuf(body: bytes) -> Iterator[Span]:
    """Field numbers: opentelemetry/proto/trace/v1/trace.proto, common/v1/common.proto."""
    for resource_spans in fields(body)[1]:
        resource = fields(resource_spans)
        attributes = _pairs(fields(resource[1][0])[1])
        for scope_spans in resource[2]:
            for message in fields(scope_spans)[2]:
                span = fields(message)
                trace, own, parent = (span[number][0].hex() if span[number] else "" for number in (1, 2, 4))
                start, end = (int.from_bytes(span[number][0], "little") for number in (7, 8))
                name, service = span[5][0].decode(), attributes["service.name"]
                yield Span(trace, own, parent, name, start, end, service, _pairs(span[9]))


def _pairs(messages: list[bytes]) -> dict[str, str]:
    pairs = {}
    for message in messages:
        pair = fields(message)
        value = fields(pair[2][0]) if pair[2] else {}
        text = value.get(1)
        pairs[pair[1][0].decode()] = text[0].decode() if text else str(next(iter(value.values()), [b""])[0])
    return pairs


def fields(message: bytes) -> dict[int, list[bytes]]:
    """Fields by number, as on the wire: https://protobuf.dev/programming-guides/encoding/"""
    found: dict[int, list[bytes]] = defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        start = at
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, start = _varint(message, at)
                at = start + length
            case 5:
                at += 4
            case other:
                raise ValueError(f"wire type {other}")
        found[key >> 3].append(message[start:at])
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        (byte,) = struct.unpack_from("B", message, at)
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


@pytest.fixture
def collector() -> Iterator[Collector]:
    with in_a_thread(Collector()) as listening:
        yield listening
