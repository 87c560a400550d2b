"""The open loop: when requests are due, and what counts, against a real HTTP server."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import arrivals, charts, open_loop, tables
from benchmarks.answers import Answer
from benchmarks.arrivals import Load, measure, schedule, summary
from benchmarks.contenders import OURS
from benchmarks.load import request
from pipeline.shared.ports import Ports
from tests.benchmarks.test_figures import one_round as figures_round
from tests.benchmarks.test_figures import summarised
from tests.benchmarks.test_load import (
    BODIES,
    Reply,
    chunked,
    closing,
    refusing,
    serving,
    with_length,
)


def load_of(url: str) -> Load:
    host, port = url.split("/")[2].split(":")
    return Load(host, int(port), [request(url, body) for body in BODIES])


def found_at(url: str, rate: float = 100, even: bool = False) -> dict[str, Any]:
    load = load_of(url)
    return summary(load, rate, 0.3, asyncio.run(measure(load, rate, seconds=0.3, warm_up=0.1, even=even)))


@pytest.mark.parametrize("even", [True, False])
def test_as_many_are_due_as_the_rate_says(even: bool) -> None:
    dues = schedule(rate=150, seconds=4, even=even)
    assert len(dues) == 600
    assert dues == sorted(dues)
    assert min(dues) >= 0
    assert max(dues) <= 4
    assert dues == schedule(150, 4, even)  # the same in every run


def test_at_random_two_may_come_at_once_and_evenly_none_do() -> None:
    gaps = {
        even: [later - earlier for earlier, later in itertools.pairwise(dues)]
        for even in (True, False)
        for dues in [schedule(100, 10, even)]
    }
    assert gaps[True] == pytest.approx([0.01] * 999)
    assert min(gaps[False]) < 0.001
    assert max(gaps[False]) > 0.03


@pytest.mark.parametrize("reply", [with_length, chunked, closing])
def test_every_request_that_was_due_is_sent_and_answered(reply: Reply) -> None:
    with serving(reply) as (url, got):
        found = found_at(url)
    assert found["due"] == found["answered"] == 30
    assert len(got) == 40  # including the warm-up
    assert found["errors"] == 0
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["throughput"] == pytest.approx(100)


def test_a_refusal_is_counted_and_no_latency() -> None:
    with serving(refusing) as (url, _):
        found = found_at(url)
    assert found["refused"] == found["errors"] == found["due"] == 30
    assert found["error_kinds"] == {"status 503": 30}
    assert found["p50_ms"] is None


def test_where_nobody_listens_every_request_is_an_error() -> None:
    found = found_at(f"http://127.0.0.1:{Ports.any_free().inference}/v1/models/alexnet:predict")
    assert found["answered"] == 0
    assert found["errors"] == found["due"]


def test_a_latency_counts_from_when_the_request_was_due() -> None:
    """A request that was due five seconds ago has waited for five seconds, whoever is to blame."""

    async def late(url: str) -> Load:
        load = load_of(url)
        await load.send(time.perf_counter() - 5, counts=True)
        while not load.latencies:
            await asyncio.sleep(0)
        for lane in list(load.lanes):
            lane.give_up()
        return load

    with serving(with_length) as (url, _):
        load = asyncio.run(late(url))
    assert load.latencies[0] >= 5
    assert load.late[0] >= 5


def test_a_request_does_not_wait_for_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers still gets requests; those beyond MOST_CONNECTIONS are not sent, but count."""
    monkeypatch.setattr(arrivals, "MOST_CONNECTIONS", 35)
    monkeypatch.setattr(arrivals, "PATIENCE_S", 0.2)

    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        found = found_at(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/models/alexnet:predict", even=True)
    assert found["connections"] == 35
    assert found["error_kinds"] == {"no answer within 0.2 s": 25, "no connection was free": 5}
    assert found["answered"] == 0


def test_an_answer_ends_where_its_head_says_however_it_comes() -> None:
    whole = b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    answer = Answer()
    assert [answer.feed(whole[place : place + 1]) for place in range(len(whole))] == [False] * (len(whole) - 1) + [True]
    assert (answer.status, answer.close, answer.retry_after) == ("503", True, True)


def one_round(p50: float = 40, answered: int = 90) -> dict[str, Any]:
    load: dict[str, Any] = {"rate": 100, "due": 100, "answered": answered, "throughput": 90, "late_p99_ms": 1.5}
    load |= {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "error_kinds": {"status 503": 100 - answered}}
    return {OURS: {"capacity": 200, "closed": load, "shares": {str(share): load for share in open_loop.SHARES}}}


def test_shares_go_up_and_down() -> None:
    assert open_loop.order(0) == (0.5, 0.8, 0.9, 1.1)
    assert open_loop.order(1) == (1.1, 0.9, 0.8, 0.5)


def test_the_table_and_the_chart_have_every_rate(tmp_path: Path) -> None:
    contenders = open_loop.summary([one_round(), one_round(60, answered=100), one_round()])
    found = summarised(figures_round()) | {"contenders": contenders, "arrivals": "Poisson"}
    table = tables.open_loop(found)
    row = "| 100 (100–100) | 40 (40–60) | 80 (80–120) | 120 (120–180) | 1.5 (1.5–1.5) | 10.0 % |"
    assert f"| **this project**, 110% of 200 {row}" in table
    assert (
        "| **this project**, 32 clients in a closed loop | 90 (90–90) | 40 (40–60) | – | 120 (120–180) | – | – |"
        in table
    )
    assert charts.draw_open(found, tmp_path)["open"].read_bytes().startswith(b"\x89PNG")
