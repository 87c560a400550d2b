"""The load generator against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.limit import Body, bodies_in
from benchmarks.load import PAUSE_S, Run, measure, percentile, request, requests_of, summary
from tests.support.in_a_thread import in_a_thread

BODIES = [json.dumps({"instances": [{"image": {"b64": "A" * size}}]}).encode() for size in (10, 100_000)]
Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[str, list[bytes]]]:
    """A server's URL, and the bodies that it got."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            reply(self)

        def log_message(self, *_: Any) -> None:
            pass

    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/models/alexnet:predict", got


def load(url: str, connections: int = 3, pause: float = PAUSE_S) -> dict[str, Any]:
    host, port = url.split("/")[2].split(":")
    run = Run(host, int(port), [request(url, body) for body in BODIES], pause)
    measured, cpu = asyncio.run(measure(run, connections, seconds=0.3, warm_up=0.1))
    return summary(run, connections, measured, cpu)


def with_length(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "17")
    handler.end_headers()
    handler.wfile.write(b'{"predictions":[]')  # as long as announced: others check its content


def chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for chunk in (b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"):
        handler.wfile.write(chunk)


def closing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(b"{}")


def refusing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def refusing_for_a_while(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.send_header("Retry-After", "2")
    handler.end_headers()
    handler.close_connection = True  # without announcing it


def breaking_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.close_connection = True


@pytest.mark.parametrize("reply", [with_length, chunked])
def test_connections_are_kept_and_whole_answers_counted(reply: Reply) -> None:
    with serving(reply) as (url, got):
        found = load(url)
    assert found["errors"] == 0
    assert found["connects"] == 3
    assert 0 < found["requests"] <= found["latencies"] <= len(got)
    assert found["throughput"] == pytest.approx(found["requests"] / found["seconds"])
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["own_cpu_ms_per_request"] > 0


def test_bodies_are_sent_whole_and_in_turn() -> None:
    with serving(with_length) as (url, got):
        load(url, connections=1)
    assert got == [BODIES[number % 2] for number in range(len(got))]


def test_a_server_that_closes_is_connected_to_again() -> None:
    with serving(closing) as (url, got):
        found = load(url)
    assert found["errors"] == 0
    assert found["connects"] == len(got) > 3


def test_a_refusal_is_an_error_and_no_throughput() -> None:
    with serving(refusing) as (url, _):
        found = load(url)
    assert found["requests"] == found["throughput"] == 0
    assert found["p50_ms"] is None
    assert list(found["error_kinds"]) == ["status 503"]
    assert found["errors"] == found["refused"] > 0
    assert found["refused_with_retry_after"] == 0
    assert 0 < found["refused_p50_ms"] <= found["refused_p99_ms"]


def test_a_refusal_may_say_when_to_come_again() -> None:
    with serving(refusing_for_a_while) as (url, got):
        found = load(url, pause=0.01)
    assert found["refused_with_retry_after"] == found["refused"] > 0
    assert found["sent"] == len(got)


def test_who_was_refused_pauses_even_where_the_connection_is_lost() -> None:
    """It also leaves at the end, without waiting for the pause to end."""
    with serving(refusing_for_a_while) as (url, got):
        found = load(url, connections=3, pause=1000)
    assert len(got) == found["sent"] == found["connects"] == 3


def test_bodies_are_sent_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b"{}")
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "notes.txt").write_bytes(b"no body")
    photograph, body = requests_of("http://x:8080/v1/models/alexnet:predict", tmp_path)
    assert b"\r\nContent-Type: image/jpeg\r\nContent-Length: 2\r\n\r\n\xff\xd8" in photograph
    assert b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" in body


def test_the_limit_reads_bodies_as_they_are_sent(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b"{}")
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "notes.txt").write_bytes(b"no body")
    assert bodies_in(tmp_path) == [Body(b"\xff\xd8", "image/jpeg"), Body(b"{}", "application/json")]


def test_half_an_answer_is_an_error() -> None:
    with serving(breaking_off) as (url, _):
        found = load(url)
    assert found["requests"] == 0
    assert list(found["error_kinds"]) == ["connection lost: closed by the server"]


def test_percentiles_are_of_the_nearest_rank() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert percentile(seconds, 50) == pytest.approx(50)
    assert percentile(seconds, 99) == pytest.approx(99)
    assert percentile([0.004], 99) == pytest.approx(4)
    assert percentile([], 50) is None
