"""One client attacks while four others call: they are answered within seconds, nothing grows, and no worker is lost.

TorchServe's own front end succumbed to the first attacks.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from reliability.clients import ANSWERED, Load
from reliability.faults.traffic import slow_uploads_at_once
from reliability.pictures import base64_text, encoded, gradient
from reliability.servers import OURS, Server, Servers
from reliability.smuggling import corpus
from tests.door.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Answer,
    Http2,
    Wire,
    asked,
    frame,
    head,
    packed,
    post,
)
from tests.support.waiting import Eventually

pytestmark = pytest.mark.slow

CLIENTS = 4
SLOWEST_S = 5  # with another test process running
LOG_BYTES = 1_000_000
MEMORY_BYTES = 300 << 20
MIB = 1 << 20
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
BOMB = gzip.compress(bytes(200 * MIB))
Attack = Callable[[int], object]  # takes a port


@pytest.fixture(scope="module")
def attacked(directory: Path) -> Iterator[Server]:
    servers = Servers(OURS, directory)
    with servers.started(variables={"REQUEST_TIMEOUT_S": "5", "UNREAD_TIMEOUT_S": "3"}) as server:
        for _ in range(4):  # Java allocates memory for the first large requests, and keeps it
            at_once(4, lambda: asked(server.address[1], post(bytes(16 * MIB))))
        yield server


def memory(server: Server) -> int:
    total = 0
    for process in server.processes():
        with suppress(psutil.Error):
            total += process.memory_full_info().uss
    return total


def at_once(count: int, attack: Callable[[], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: attack(), range(count)))


# --- What TorchServe's own front end fell to --------------------------------------------------------------------------


def forms_of_16_mb(port: int) -> None:
    body = (b"a&" * (8 * MIB))[: 16 * MIB]
    for answer in at_once(2, lambda: asked(port, post(body, FORM))):
        assert_refused(answer)


def forms_of_400_kb(port: int) -> None:
    for answer in at_once(4, lambda: asked(port, post(b"a&" * 200_000, FORM))):
        assert_refused(answer)


def forms_that_cannot_be_decoded(port: int) -> None:
    for body, kind in (
        (b"%zz" + bytes(16 * MIB - 3), FORM),
        (b"a=%f", FORM),
        (b"a=b", FORM + "; charset=no-such"),
        (b"\x01" * (15 * MIB), FORM),
        (b"--\xff", "Content-Type: multipart/form-data; boundary=\xff%zz"),
        (b"forged", "Content-Type: multipart/form-data"),
    ):
        answer = asked(port, post(body, kind))
        assert_refused(answer)
        assert len(answer.body) < 1000
    for path in ("/%zz", "/%", "/%00", "/%1b[31m", "/v1/models/%zz:predict", "/?%zz"):
        for answer in at_once(100, partial(asked, port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())):
            assert answer.status in (400, 404, 405) or path == "/?%zz"


def many_classes(instances: int) -> bytes:
    image = {"b64": base64_text(encoded(gradient(1, 1)))}
    return post(json.dumps({"instances": [image] * instances, "parameters": {"top_k": 1000}}).encode(), JSON)


def answers_of_5_mb(port: int) -> None:
    request = many_classes(64)
    for answer in at_once(16, lambda: asked(port, request)):
        assert answer.status == 413


def answers_that_nobody_reads(port: int) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port, receive_buffer=2048)) for _ in range(48)]
        for wire in wires:  # one after the other: this is about memory, not work
            wire.send(many_classes(10))
            assert wire.socket.recv(1, socket.MSG_PEEK)
        for wire in wires:
            assert cut_off(wire)


def cut_off(wire: Wire) -> bool:
    """Whether the door closes a connection whose client does not read; checked without reading."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not wire.send(b"\0") or state(wire) != 1:
            return True
        time.sleep(0.1)
    return False


def state(wire: Wire) -> int:
    """1: established. https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html"""
    with suppress(OSError):
        return wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]
    return 0


def heads_that_can_be_read_otherwise(port: int) -> None:
    def sent(request: bytes) -> None:
        with Wire(port) as wire:
            wire.send(request)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sent, [case.sent for case in corpus().values()] * 3))


# --- Slow ones --------------------------------------------------------------------------------------------------------


def slow_uploads(port: int) -> None:
    asyncio.run(slow_uploads_at_once(("127.0.0.1", port), seconds=6))


def slow_heads(port: int) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port)) for _ in range(500)]
        for _ in range(20):
            for wire in wires:
                wire.send(b"P")
            time.sleep(0.1)


def silent_connections(port: int) -> None:
    """More than the door accepts: existing connections keep working."""
    with ExitStack() as stack:
        for _ in range(3000):
            with suppress(OSError):
                stack.enter_context(Wire(port))


def uploads_that_fill_memory(port: int) -> None:
    """Each is one byte short of the door's buffer."""
    size = 512 * 1024
    body = post(bytes(size))[:-1]
    with ExitStack() as stack:
        for _ in range(900):
            wire = stack.enter_context(Wire(port))
            wire.socket.settimeout(2)
            with suppress(TimeoutError):
                wire.send(body)


def trickling_readers(port: int) -> None:
    request = many_classes(10)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port, receive_buffer=2048)) for _ in range(16)]
        for wire in wires:
            wire.send(request)
        for _ in range(30):
            for wire in wires:
                with suppress(OSError):
                    wire.socket.recv(10)
            time.sleep(0.1)


# --- Many, or long ----------------------------------------------------------------------------------------------------


def tiny_chunks(port: int) -> None:
    request = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    at_once(8, lambda: asked(port, request + b"1\r\na\r\n" * 300_000 + b"0\r\n\r\n"))


def chunk_extensions(port: int) -> None:
    request = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    at_once(4, lambda: asked(port, request + b"2;" + b"a" * (8 * MIB) + b"\r\n{}\r\n0\r\n\r\n"))
    at_once(4, lambda: asked(port, request + b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * MIB + b"\r\n"))


def expectations(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            wire = stack.enter_context(Wire(port))
            wire.send(post(bytes(2000), "Expect: 100-continue")[:-2000])
            wire.send(post(b"", "Expect: 100-continue", "Expect: 100-continue"))


def pipelines(port: int) -> None:
    with ExitStack() as stack:
        for request in (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"):
            wire = stack.enter_context(Wire(port))
            wire.socket.settimeout(5)
            with suppress(TimeoutError):  # it reads no answers, so eventually nothing more is accepted
                wire.send(request * 20_000)


def heads_of_parts(port: int) -> None:
    kind = "Content-Type: multipart/form-data; boundary=b"
    names = b"--b\r\nContent-Disposition: form-data; name=" + b"a" * (15 * MIB) + b"\r\n\r\n\r\n--b--\r\n"
    lines = b"--b\r\n" + b"a: b\r\n" * (2 * MIB) + b"\r\n\r\n--b--\r\n"
    parts = b"--b\r\nContent-Disposition: form-data; name=data\r\n\r\n\r\n" * 200_000 + b"--b--\r\n"
    for body in (names, lines, parts, b"--b\r\n" * (3 * MIB)):
        for answer in at_once(2, partial(asked, port, post(body, kind))):
            assert_refused(answer)


def texts_that_never_end(port: int) -> None:
    """A search in damaged JSON may restart at each quote, bracket or number."""
    for again in (b'\\"', b'"[', b"[1,1,", b'[1,1,"', b'{"a":', b"[[", b"1e9,", b'"\\u0061'):
        body = b'{"instances": [{"b64": "' + again * (15 * MIB // len(again))
        for answer in at_once(2, partial(asked, port, post(body, JSON))):
            assert_refused(answer)


def bombs(port: int) -> None:
    for answer in at_once(16, lambda: asked(port, post(BOMB, "Content-Encoding: gzip"))):
        assert answer.status == 413
    zeros = b"".join(
        struct.pack("<I", (number == 49_999) | 1 << 1 | 131_072 << 3)[:3] + b"\0" for number in range(50_000)
    )
    for answer in at_once(8, lambda: asked(port, post(b"\x28\xb5\x2f\xfd\x00\x58" + zeros, "Content-Encoding: zstd"))):
        assert_refused(answer)
    assert asked(port, post(gzip.compress(BOMB), "Content-Encoding: gzip, gzip")).status == 415


def refused_without_end(port: int) -> None:
    """Each would be a line in the log."""
    with Wire(port) as wire:
        for _ in range(2000):
            wire.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.answer().status == 404


def clients_that_leave(port: int) -> None:
    """Their requests are running, or stay in TorchServe's queue."""
    image = {"b64": base64_text(encoded(gradient(1, 1)))}
    for path in ("/v1/models/alexnet:predict", "/v1/models/alexnet:explain"):
        request = post(json.dumps({"instances": [image] * 16}).encode(), JSON, path=path)

        def ask_and_leave(request: bytes = request) -> None:
            for _ in range(60):
                with Wire(port) as wire:
                    wire.send(request)
                    time.sleep(0.03)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ask_and_leave(), range(4)))


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


def rapid_reset(port: int) -> None:
    """CVE-2023-44487."""
    for _ in range(5):
        with Http2(port) as http:
            for stream in range(1, 4001, 2):
                http.open(stream, [*head(), (b"content-length", b"10")])
                http.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))


def continuations(port: int) -> None:
    for _ in range(4):
        with Http2(port) as http:
            http.send(frame(HEADERS, 0, 1, packed(head())))
            for number in range(3000):
                http.send(frame(CONTINUATION, 0, 1, packed([(b"x%d" % number, b"y" * 4000)] * 4)))


def streams_that_never_end(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            http = stack.enter_context(Http2(port))
            http.socket.settimeout(1)
            for stream in range(1, 201, 2):
                http.open(stream, [*head(), (b"content-length", b"500000")])
                with suppress(TimeoutError):
                    http.data(stream, bytes(400_000), end=False)


def closed_windows(port: int) -> None:
    """Answers that may not be sent, on the maximum number of streams."""
    with ExitStack() as stack:
        for _ in range(4):
            http = stack.enter_context(Http2(port, settings=struct.pack(">HI", 4, 0)))
            for stream in range(1, 201, 2):
                http.open(stream, head(method=b"GET", path=b"/v1/models"), end=True)
        time.sleep(4)


def packed_heads(port: int) -> None:
    """One long value in the connection's table, and headers that refer to it hundreds of times."""
    for _ in range(4):
        with Http2(port) as http:
            value = b"\x40\x01a\x7f" + bytes([0xA1, 0x1E]) + b"v" * 4000  # literal with indexing: a: vvv…
            http.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, packed(head(method=b"GET", path=b"/")) + value))
            for stream in range(3, 201, 2):
                again = packed(head(method=b"GET", path=b"/")) + b"\xbe" * 15_000
                http.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, again))


def control_frames(port: int) -> None:
    for flood in (
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0),
        frame(DATA, 0, 1),
        frame(2, 0, 1, bytes(5)),
    ):
        with Http2(port) as http:
            http.open(1, head())
            for _ in range(20):
                http.send(flood * 1000)


# --- gRPC -------------------------------------------------------------------------------------------------------------

CALL = head(
    (b"content-type", b"application/grpc"), (b"te", b"trailers"), path=b"/inference.GRPCInferenceService/ModelInfer"
)


def framed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def of_length(size: int) -> bytes:
    """A varint: https://protobuf.dev/programming-guides/encoding/"""
    return bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])


NAMED = b"\x0a\x07alexnet"


def large_messages_that_never_end(port: int) -> None:
    """Each is one byte short of the door's limit."""
    with ExitStack() as stack:
        for _ in range(4):
            http = stack.enter_context(Http2(port))
            http.socket.settimeout(1)
            for stream in range(1, 41, 2):
                http.open(stream, CALL)
                with suppress(TimeoutError):
                    http.data(
                        stream, framed(NAMED + b"\x3a" + of_length(12_500_000) + bytes(12_500_000))[:-1], end=False
                    )


def large_messages_at_once(port: int) -> None:
    message = framed(NAMED + b"\x3a" + of_length(12_500_000) + bytes(12_500_000))
    with ThreadPoolExecutor(3) as pool:  # more would slow down this process, which measures the others
        list(pool.map(lambda _: called(port, message, 4), range(3)))


def messages_of_numbers(port: int) -> None:
    """A number is one byte, and much more in JSON: as many as are accepted, and as many as fit into 12 MiB."""
    for size in (520_000, 12_500_000):
        booleans = b"\x0a" + of_length(size) + bytes(size)
        contents = b"\x2a" + of_length(len(booleans)) + booleans
        called(port, framed(NAMED + b"\x2a" + of_length(len(contents)) + contents), 10)


def messages_of_nothing(port: int) -> None:
    for field in (b"\x3a\0", b"\x2a\0", b"\x32\0", b"\x22\0"):
        called(port, framed(NAMED + field * 6_000_000), 4)
        called(port, framed(NAMED + field * 9_000), 4)
    nested = b"\x2a\x02\x2a\0"
    called(port, framed(NAMED + nested * 3_000_000), 4)


def called(port: int, body: bytes, times: int) -> None:
    with Http2(port) as http:
        for stream in range(1, 2 * times, 2):
            http.open(stream, CALL)
            http.data(stream, body)
            http.ends(stream)
            assert http.heads.get(stream, {}).get("grpc-status", "8") in ("3", "4", "8", "14"), http.heads[stream]


ATTACKS: list[Attack] = [
    *(forms_of_16_mb, forms_of_400_kb, forms_that_cannot_be_decoded, answers_of_5_mb, answers_that_nobody_reads),
    *(heads_that_can_be_read_otherwise, slow_uploads, slow_heads, silent_connections, uploads_that_fill_memory),
    *(trickling_readers, tiny_chunks, chunk_extensions, expectations, pipelines, heads_of_parts, bombs),
    *(
        texts_that_never_end,
        refused_without_end,
        clients_that_leave,
        rapid_reset,
        continuations,
        streams_that_never_end,
    ),
    *(closed_windows, packed_heads, control_frames),
    *(large_messages_that_never_end, large_messages_at_once, messages_of_numbers, messages_of_nothing),
]


def assert_refused(answer: Answer) -> None:
    assert 400 <= answer.status < 500, answer
    assert list(json.loads(answer.body)) == ["error"]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.__name__))
def test_who_asks_beside_it_does_not_notice(attack: Attack, attacked: Server, eventually: Eventually) -> None:
    workers, logged, held = {worker.pid for worker in attacked.workers()}, len(attacked.log()), memory(attacked)

    async def both() -> Load:
        async with Load(attacked.address, attacked.form, CLIENTS) as load:
            assert await load.answered_since(time.monotonic(), 2 * CLIENTS, 60)
            await asyncio.to_thread(attack, attacked.address[1])
            assert await load.answered_since(time.monotonic(), 2 * CLIENTS, 60)
        return load

    load = asyncio.run(both())
    assert {reply.outcome for reply in load.replies} == {ANSWERED}
    assert max(reply.ended - reply.sent for reply in load.replies) < SLOWEST_S
    assert {worker.pid for worker in attacked.workers()} == workers
    assert len(attacked.log()) - logged < LOG_BYTES
    eventually(lambda: memory(attacked) - held < MEMORY_BYTES)
