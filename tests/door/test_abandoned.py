"""Clients that leave while TorchServe has their request are listed for the workers, by a key that none can choose."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline.shared.ports import free_ports
from server.door import MOST_ABANDONED_BYTES, Door, find_envoy
from server.folder import Address
from tests.door.conftest import Recorded
from tests.door.recorder import Request, answer_to
from tests.door.wire import RST_STREAM, Http2, Wire, asked, frame, head, post
from tests.support.waiting import Eventually

pytestmark = pytest.mark.slow

PREDICT, EXPLAIN = "/v1/models/alexnet:predict", "/v2/models/alexnet/explain"
WAYS = ["HTTP/1.1", "HTTP/2", "a stream of HTTP/2", "a deadline of gRPC"]


def written(recorded: Recorded) -> list[str]:
    return (recorded.folder / "abandoned").read_text().splitlines()


def key(request: Request) -> str:
    return request.headers[b"x-door-request"].decode()


def leave(way: str, identity: str, path: str, recorded: Recorded, eventually: Eventually) -> Request:
    """Sends a request, and leaves once TorchServe has it. Returns what TorchServe got."""

    def has_it() -> bool:
        return bool(recorded.torchserve.of(identity))

    if way == "HTTP/1.1":
        with Wire(recorded.port) as wire:
            wire.send(post(b"{}", f"X-Request-Id: {identity}", path=path))
            eventually(has_it)
    else:
        with Http2(recorded.port) as http:
            fields = [(b"x-request-id", identity.encode()), (b"content-length", b"2")]
            body = b"{}"
            if way == "a deadline of gRPC":
                path, body = "/inference.GRPCInferenceService/ModelInfer", b"\0\0\0\0\x09\x0a\x07alexnet"
                fields = [fields[0], (b"content-type", b"application/grpc"), (b"grpc-timeout", b"300m")]
            http.open(1, head(*fields, path=path.encode()))
            http.data(1, body)
            eventually(has_it)
            if way == "a stream of HTTP/2":
                http.send(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
            if way != "HTTP/2":
                eventually(lambda: key(recorded.torchserve.of(identity)[0]) in written(recorded))
    (request,) = recorded.torchserve.of(identity)
    return request


@pytest.mark.parametrize(
    ("way", "path"),
    [(way, path) for way in WAYS for path in (PREDICT, EXPLAIN)][:-1],  # gRPC explains nothing
)
def test_who_leaves_is_written_down(way: str, path: str, recorded: Recorded, eventually: Eventually) -> None:
    verb = path[-7:].encode()
    with recorded.torchserve.holding(verb):
        request = leave(way, f"{way}-{verb.decode()}".replace(" ", "-"), path, recorded, eventually)
        eventually(lambda: key(request) in written(recorded))


def test_who_is_answered_or_refused_is_not(recorded: Recorded, eventually: Eventually) -> None:
    before = len(written(recorded))
    with recorded.torchserve.holding(b"predict"):
        left = leave("HTTP/1.1", "between", PREDICT, recorded, eventually)
    for identity in ("answered", "status-400", "status-500-own"):
        asked(recorded.port, post(b"{}", f"X-Request-Id: {identity}"))
        assert recorded.torchserve.of(identity)
    asked(recorded.port, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    with recorded.torchserve.holding(b"predict"):
        last = leave("HTTP/1.1", "last", PREDICT, recorded, eventually)
        eventually(lambda: key(last) in written(recorded))
    assert written(recorded)[before:] == [key(left), key(last)]


def test_nor_is_what_torchserve_never_had(recorded: Recorded, eventually: Eventually) -> None:
    """Otherwise a client that comes and goes would push out the entries that count."""
    before = len(written(recorded))
    for _ in range(100):
        with Wire(recorded.port) as wire:
            wire.send(post(b"{}", "X-Request-Id: never")[:-1])
    with recorded.torchserve.holding(b"predict"):
        last = leave("HTTP/1.1", "after-them", PREDICT, recorded, eventually)
        eventually(lambda: key(last) in written(recorded))
    assert recorded.torchserve.of("never") == []
    assert written(recorded)[before:] == [key(last)]


def test_nobody_can_say_that_another_has_left(recorded: Recorded, eventually: Eventually) -> None:
    """Neither with its request id nor with the key itself."""
    with recorded.torchserve.holding(b"predict"), Wire(recorded.port) as waiting:
        waiting.send(post(b"{}", "X-Request-Id: same", "X-Door-Request: mine"))
        eventually(lambda: recorded.torchserve.of("same"))
        (theirs,) = recorded.torchserve.of("same")
        with Wire(recorded.port) as wire:
            wire.send(post(b"{}", "X-Request-Id: same", f"X-Door-Request: {key(theirs)}"))
            eventually(lambda: len(recorded.torchserve.of("same")) == 2)
        ours = recorded.torchserve.of("same")[1]
        eventually(lambda: key(ours) in written(recorded))
        assert key(theirs) not in written(recorded)
        assert key(theirs) != "mine"
    with Wire(recorded.port) as wire:
        wire.send(post())
        assert wire.answer().body == answer_to(b"{}")


def test_the_file_stays_small_and_nothing_hangs_on_it(tmp_path: Path, eventually: Eventually) -> None:
    if find_envoy() is None:
        pytest.skip("Envoy is not here")
    file = tmp_path / "abandoned"
    door = Door(tmp_path, ("alexnet", ""), Address("127.0.0.1", free_ports(1)[0]), 1)
    try:
        door.start()

        def is_open() -> bool:
            door.keep_up()
            return door.open

        eventually(is_open)
        for size, left in ((MOST_ABANDONED_BYTES, MOST_ABANDONED_BYTES), (MOST_ABANDONED_BYTES + 1, 0)):
            file.write_bytes(bytes(size))
            door.keep_up()
            assert file.stat().st_size == left
        file.unlink()
        door.keep_up()
        assert door.open
    finally:
        door.stop()
        door._forwarding.join()
        assert door._process.stdout is not None
        door._process.stdout.close()
