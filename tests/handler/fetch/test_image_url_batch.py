"""Images by URL in a batch: what a host does to one request does not affect the others."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reliability.pictures import base64_text
from tests.support.scripted_host import FOUND, Host, is_silent, running_host, says
from vision.fetch.image_url import UrlFetcher

JSON = "application/json"


@pytest.fixture(scope="module")
def photograph(photographs: list[Path]) -> bytes:
    return photographs[0].read_bytes()


@pytest.fixture
def host(photograph: bytes) -> Iterator[Host]:
    with running_host(FOUND + b"\r\n" + photograph) as running:
        yield running


@pytest.fixture
def slow_host() -> Iterator[Host]:
    with running_host(b"") as running:
        running.answer = is_silent
        yield running


@pytest.fixture
def fetching(worker: Any, host: Host, slow_host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the handler fetch from quick.example.org and slow.example.org with this timeout."""
    ports = {"quick.example.org": host.port, "slow.example.org": slow_host.port}

    def resolve(name: str, _port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", ports[name]))]

    def within(timeout_s: float) -> None:
        fetcher = UrlFetcher(list(ports), timeout_s, 10_000_000, True, resolve, check=lambda _: True)
        monkeypatch.setattr(worker.handler, "_fetcher", fetcher)

    return within


def asking(*instances: dict[str, Any]) -> tuple[str, bytes]:
    return JSON, json.dumps({"instances": instances}).encode()


QUICK = {"url": "http://quick.example.org/"}
SLOW = {"url": "http://slow.example.org/"}


@pytest.mark.slow
def test_a_host_that_is_silent_refuses_its_own_request_alone(
    worker: Any, photograph: bytes, fetching: Callable[[float], None]
) -> None:
    fetching(2)
    good = asking({"b64": base64_text(photograph)})
    expected = worker.predict(good, good)
    first, slow, second = worker.predict(asking(QUICK), asking(*[SLOW] * 64), good)
    assert [first, second] == expected
    assert slow == (504, JSON, b'{"error": "instances[0].url: no complete answer within 2 s"}')


@pytest.mark.timeout(120)
def test_a_refused_request_leaves_nothing_under_way(
    worker: Any, slow_host: Host, fetching: Callable[[float], None]
) -> None:
    """It is refused because of another instance; its fetch from the slow host would continue for ten minutes."""
    fetching(600)
    before = set(threading.enumerate())
    (refused,) = worker.predict(asking(SLOW, SLOW, {"b64": "AAAA"}, QUICK | {"b64": ""}))
    assert refused[0] == 400
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("fetch"):
            thread.join()
    assert not slow_host.stopping.is_set()


def test_the_images_of_a_request_are_bounded_together(
    worker: Any, host: Host, fetching: Callable[[float], None]
) -> None:
    fetching(30)
    host.answer = says(FOUND + b"\r\n" + bytes(10_000_000))
    (refused,) = worker.predict(asking(*[QUICK] * 5))
    assert refused == (413, JSON, b'{"error": "instances: more than 40000000 bytes by URL"}')
