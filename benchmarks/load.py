"""The load generator, a separate process: a closed loop over some keep-alive connections.

    python -m benchmarks.load URL BODIES --connections 32 --seconds 4 --warm-up 1

BODIES is a folder of request bodies (JSON, photographs as they are, or KServe v2's tensors after its JSON), which the
connections send in turn. Prints one line of JSON, see `summary`.

It uses only the standard library's asyncio: requests are bytes assembled beforehand, and it reads only an answer's
status and end. So a request costs it little CPU, and it prints how much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.answers import Answer

PATIENCE_S = 30  # for requests still under way at the end; then they count as errors
PAUSE_S = 0.1  # after a refused connection or request: otherwise, a full queue would only measure refusals
JSON_TYPE = "application/json"
CONTENT_TYPES = {".json": JSON_TYPE, ".jpg": "image/jpeg", ".v2": "application/octet-stream"}
BUSY = "503"


class Run:
    """Shared by the connections: the requests to send, the clock, and the results."""

    def __init__(self, host: str, port: int, requests: list[bytes], pause: float = PAUSE_S) -> None:
        self.host, self.port = host, port
        self.requests = cycle(requests)
        self._pause = pause
        self.measuring = self.stopping = False
        self.completed = 0  # answered with 200 within the measured time
        self.latencies: list[float] = []  # s, of requests under way in the measured time
        self.errors: Counter[str] = Counter()
        self.connections = 0
        self.sent = 0  # requests, from the first one on
        self.refusals: list[float] = []  # s, until a 503
        self.retry_after = 0  # of these, with this header

    def pause(self) -> float:
        """Seconds, random around the chosen pause: clients that were refused together do not return together."""
        return self._pause * random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311

    def succeeded(self, latency: float) -> None:
        if self.measuring:
            self.completed += 1
        if self.measuring or self.stopping:
            self.latencies.append(latency)

    def failed(self, what: str) -> None:
        if self.measuring or self.stopping:
            self.errors[what] += 1

    def refused(self, latency: float, retry_after: bool) -> None:
        if self.measuring or self.stopping:
            self.refusals.append(latency)
            self.retry_after += retry_after


class Connection(asyncio.Protocol):
    """Sends a request, waits for the complete answer, sends the next; `closed` is set when the connection ends."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answer = Answer()
        self._pausing: asyncio.TimerHandle | None = None
        self._began: float | None = None  # None: nothing is under way
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._run.connections += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._answer.feed(data):
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        if self._began is not None:
            self._run.failed(f"connection lost: {error or 'closed by the server'}")
        if not self._pausing:
            self._end_here()

    def stop(self) -> None:
        """Ends a pause; a request under way may finish."""
        if self._pausing:
            self._pausing.cancel()
            self._next()

    def give_up(self) -> None:
        if self._began is not None:
            self._began = None
            self._run.failed(f"no answer within {PATIENCE_S} s")
        self._transport.abort()

    def _send(self) -> None:
        self._answer, self._began = Answer(), time.perf_counter()
        self._run.sent += 1
        self._transport.write(next(self._run.requests))

    def _finish(self) -> None:
        assert self._began is not None
        latency, self._began = time.perf_counter() - self._began, None
        if self._answer.status == "200":
            self._run.succeeded(latency)
            self._next()
        else:
            self._run.failed(f"status {self._answer.status}")
            if self._answer.status == BUSY:
                self._run.refused(latency, self._answer.retry_after)
            self._pausing = asyncio.get_running_loop().call_later(self._run.pause(), self._next)

    def _next(self) -> None:
        self._pausing = None
        if self._transport.is_closing():  # a server may close after a refusal: the pause applies anyway
            self._end_here()
        elif self._run.stopping or self._answer.close:
            self._transport.close()
        else:
            self._send()

    def _end_here(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def measure(run: Run, connections: int, seconds: float, warm_up: float) -> tuple[float, float]:
    """Applies the load for `warm_up` and then for `seconds`; returns the seconds measured and the CPU seconds spent."""
    live: dict[int, Connection] = {}
    clients = [asyncio.create_task(_keep_connected(run, number, live)) for number in range(connections)]
    await asyncio.sleep(warm_up)
    began, cpu, run.measuring = time.perf_counter(), cpu_seconds(), True
    await asyncio.sleep(seconds)
    measured, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    run.measuring, run.stopping = False, True
    for connection in list(live.values()):
        connection.stop()
    _, late = await asyncio.wait(clients, timeout=PATIENCE_S)
    if late:
        for connection in list(live.values()):
            connection.give_up()
        await asyncio.wait(late)
    for client in clients:
        client.result()
    return measured, cpu


async def _keep_connected(run: Run, number: int, live: dict[int, Connection]) -> None:
    loop = asyncio.get_running_loop()
    while not run.stopping:
        try:
            _, live[number] = await loop.create_connection(lambda: Connection(run), run.host, run.port)
        except OSError as error:
            run.failed(f"no connection: {error.strerror}")
            await asyncio.sleep(run.pause())
        else:
            await live[number].closed


def summary(run: Run, connections: int, measured: float, cpu: float) -> dict[str, object]:
    """Throughput counts answers with status 200 in the measured time. Latencies, in ms, include those that ended later.

    `sent` includes the warm-up: it relates another process's CPU time over the same period to the requests.
    """
    answered = run.completed + sum(run.errors.values())
    latencies, refusals = sorted(run.latencies), sorted(run.refusals)
    return {
        "connections": connections,
        "requests": run.completed,
        "errors": sum(run.errors.values()),
        "error_kinds": dict(run.errors),
        "seconds": measured,
        "throughput": run.completed / measured,
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "latencies": len(latencies),
        "connects": run.connections,
        "sent": run.sent,
        "refused": len(refusals),
        "refused_p50_ms": percentile(refusals, 50),
        "refused_p99_ms": percentile(refusals, 99),
        "refused_with_retry_after": run.retry_after,
        "own_cpu_ms_per_request": 1000 * cpu / answered if answered else None,
    }


def percentile(ordered: list[float], percent: float) -> float | None:
    """The nearest-rank percentile of ordered seconds, in ms; None if there are none."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)  # the ceiling
    return 1000 * ordered[max(int(rank), 1) - 1]


def requests_of(url: str, bodies: Path) -> list[bytes]:
    """One request for each body in a folder, in the order of their names."""
    files = [file for file in sorted(bodies.iterdir()) if file.suffix in CONTENT_TYPES]
    return [request(url, file.read_bytes(), CONTENT_TYPES[file.suffix], _json_length(file)) for file in files]


def _json_length(file: Path) -> str:
    """The length of the JSON at the beginning of a .v2 file: 123 for `00-123.v2`."""
    return file.stem.partition("-")[2] if file.suffix == ".v2" else ""


def request(url: str, body: bytes, content_type: str = JSON_TYPE, json_length: str = "") -> bytes:
    """A complete HTTP/1.1 POST. json_length: in bytes, if other bytes follow the JSON."""
    parts = urlsplit(url)
    more = f"Inference-Header-Content-Length: {json_length}\r\n" if json_length else ""
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="after a refusal, in seconds on average")
    chosen = parser.parse_args()
    parts = urlsplit(chosen.url)
    assert parts.hostname is not None
    run = Run(parts.hostname, parts.port or 80, requests_of(chosen.url, chosen.bodies), chosen.pause)
    measured, cpu = asyncio.run(measure(run, chosen.connections, chosen.seconds, chosen.warm_up))
    print(json.dumps(summary(run, chosen.connections, measured, cpu)))


if __name__ == "__main__":
    main()
