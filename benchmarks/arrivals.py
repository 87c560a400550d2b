"""The open-loop load generator: a request is sent when it is due, whether or not earlier ones have been answered.

    python -m benchmarks.arrivals URL BODIES --rate 150 --seconds 8 --warm-up 2

A closed loop (load.py) waits for an answer before it asks again: a server that stalls gets fewer requests, and the time
that others would have waited is in no figure. Here a latency counts from when the request was due. It includes the
generator's own delay, which is printed too. Requests arrive as from many independent clients (Poisson), or at even
intervals (`--even`). Each uses a free connection, or a new one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.answers import Answer
from benchmarks.load import BUSY, PATIENCE_S, cpu_seconds, percentile, requests_of

MOST_CONNECTIONS = 2000  # a request that finds none is not sent, and counts as an error
SEED = 20


def schedule(rate: float, seconds: float, even: bool, seed: int = SEED) -> list[float]:
    """When requests are due, in seconds from the start, in order: `rate` per second.

    Random times form a Poisson process with a given number of events: the times are independent of each other.
    """
    draw, count = random.Random(seed), round(rate * seconds)  # noqa: S311  # nosec B311
    return (
        [number / rate for number in range(count)] if even else sorted(draw.uniform(0, seconds) for _ in range(count))
    )


class Load:
    """The requests, the free connections, and the results of requests that were due in the measured time."""

    def __init__(self, host: str, port: int, requests: list[bytes]) -> None:
        self.host, self.port = host, port
        self.requests = cycle(requests)
        self.free: list[Lane] = []
        self.lanes: set[Lane] = set()
        self.most = 0  # connections at once
        self.due = 0
        self.latencies: list[float] = []  # s, of answers with status 200
        self.late: list[float] = []  # s, from when a request was due until it was sent
        self.errors: Counter[str] = Counter()
        self.refused = 0

    async def send(self, due: float, counts: bool) -> None:
        """due: on time.perf_counter's clock. counts: whether the request is in the measured time."""
        self.due += counts
        if lane := self._free_lane():
            lane.send(due, counts)
        elif len(self.lanes) >= MOST_CONNECTIONS:
            self.failed("no connection was free", counts)
        else:
            lane = Lane(self)
            self.lanes.add(lane)
            self.most = max(self.most, len(self.lanes))
            try:
                await asyncio.get_running_loop().create_connection(lambda: lane, self.host, self.port)
            except OSError as error:
                self.lanes.discard(lane)
                self.failed(f"no connection: {error.strerror}", counts)
            else:
                lane.send(due, counts)

    def _free_lane(self) -> Lane | None:
        while self.free:
            if not (lane := self.free.pop()).is_closing:
                return lane
        return None

    def ended(self, status: str, latency: float, counts: bool) -> None:
        if status == "200":
            self.latencies += [latency] * counts
        else:
            self.refused += counts and status == BUSY
            self.failed(f"status {status}", counts)

    def failed(self, what: str, counts: bool) -> None:
        if counts:
            self.errors[what] += 1


class Lane(asyncio.Protocol):
    """A connection: sends one request at a time, and is free again when it is answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = Answer()
        self._due: float | None = None  # None: nothing is under way
        self._counts = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, due: float, counts: bool) -> None:
        self._answer, self._due, self._counts = Answer(), due, counts
        self._load.late += [time.perf_counter() - due] * counts
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        if self._due is None or not self._answer.feed(data):
            return
        self._load.ended(self._answer.status, time.perf_counter() - self._due, self._counts)
        self._due = None
        if self._answer.close:
            self._transport.close()
        else:
            self._load.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lanes.discard(self)
        if self in self._load.free:
            self._load.free.remove(self)
        if self._due is not None:
            self._load.failed(f"connection lost: {error or 'closed by the server'}", self._counts)

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        return self._due is not None

    def give_up(self) -> None:
        if self._due is not None:
            self._due = None
            self._load.failed(f"no answer within {PATIENCE_S} s", self._counts)
        self._transport.abort()


async def measure(load: Load, rate: float, seconds: float, warm_up: float, even: bool) -> float:
    """Sends requests when due, waits for the answers, and returns the CPU seconds spent in the measured time."""
    began, spent = time.perf_counter(), 0.0
    sending: set[asyncio.Task[None]] = set()
    measured = [warm_up + due for due in schedule(rate, seconds, even)]
    for due in [*schedule(rate, warm_up, even), *measured]:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        if due >= warm_up and not load.due:
            spent = cpu_seconds()
        task = asyncio.create_task(load.send(began + due, counts=due >= warm_up))
        sending.add(task)
        task.add_done_callback(sending.discard)
    deadline = time.perf_counter() + PATIENCE_S
    while (sending or any(lane.is_busy for lane in load.lanes)) and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    spent = cpu_seconds() - spent
    for lane in list(load.lanes):
        lane.give_up()
    return spent


def summary(load: Load, rate: float, seconds: float, spent: float) -> dict[str, object]:
    """Summarises the requests that were due in the measured time. Latencies, in ms, only for status 200."""
    latencies = sorted(load.latencies)
    return {
        "rate": rate,
        "due": load.due,
        "answered": len(latencies),
        "refused": load.refused,
        "errors": sum(load.errors.values()),
        "error_kinds": dict(load.errors),
        "throughput": len(latencies) / seconds,
        **{f"p{percent}_ms": percentile(latencies, percent) for percent in (50, 95, 99)},
        "late_p99_ms": percentile(sorted(load.late), 99),
        "connections": load.most,
        "own_cpu_ms_per_request": 1000 * spent / load.due if load.due else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--rate", type=float, required=True, help="requests per second, on average")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    parser.add_argument("--even", action="store_true", help="at even intervals")
    chosen = parser.parse_args()
    parts = urlsplit(chosen.url)
    assert parts.hostname is not None
    load = Load(parts.hostname, parts.port or 80, requests_of(chosen.url, chosen.bodies))
    spent = asyncio.run(measure(load, chosen.rate, chosen.seconds, chosen.warm_up, chosen.even))
    print(json.dumps(summary(load, chosen.rate, chosen.seconds, spent)))


if __name__ == "__main__":
    main()
