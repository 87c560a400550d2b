"""Many requests, and whether the server grows: memory, descriptors, threads, temporary files.

    PYTHONPATH=. python -P -m reliability.soak [--requests 100000] [--server ours|stock]

A tenth of the requests warms the server up. From then on it is measured at every tenth, with nothing under way. What it
had at the first two measurements is compared with what it has at the last two. Exits with 1 where it has grown, or a
request was not answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from reliability.__main__ import RESULTS
from reliability.clients import ANSWERED, Load
from reliability.servers import OURS, STOCK, Server, Servers

REQUESTS = 100_000  # where no other number is asked for
CLIENTS = 32
PARTS = 10
# Growth that counts. A JVM's heap grows until it is collected: its bound is in config.properties, -Xmx.
ALLOWED = {"workers_mb": 20.0, "java_mb": 100.0, "descriptors": 5, "threads": 5, "files": 0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="reliability.soak")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--server", choices=(OURS, STOCK), default=OURS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Servers(chosen.server, Path(directory)).started() as server:
        result = asyncio.run(soaked(server, "data" if chosen.server == STOCK else "b64", chosen.requests))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"soak-{chosen.server}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    return int(bool(result["failed"]))


async def soaked(server: Server, form: str, requests: int) -> dict[str, object]:
    began, outcomes, measurements = time.monotonic(), {}, []
    for part in range(PARTS + 1):
        async with Load(server.address, form, CLIENTS) as load:
            while len(load.replies) < requests // (PARTS + 1):
                await asyncio.sleep(0.02)
            await load.leave()
        for outcome, count in load.outcomes().items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
        await connections_ended(server)
        measurements.append(measured(server))
        print(f"{part + 1}/{PARTS + 1}: {measurements[-1]}", file=sys.stderr, flush=True)
    growth = {name: mean(measurements[-2:], name) - mean(measurements[1:3], name) for name in ALLOWED}
    failed = [f"{name}: {growth[name]:+.1f}" for name, bound in ALLOWED.items() if growth[name] > bound]
    failed += [f"{count} × {outcome}" for outcome, count in outcomes.items() if outcome != ANSWERED]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "asked": requests,
        "requests": sum(outcomes.values()),
        "seconds": time.monotonic() - began,
        "outcomes": outcomes,
        "measurements": measurements,
        "growth": growth,
        "failed": failed,
    }


def mean(measurements: list[dict[str, float]], name: str) -> float:
    return sum(measurement[name] for measurement in measurements) / len(measurements)


async def connections_ended(server: Server) -> None:
    """Waits until the front end has closed what the clients have."""
    java = server.java()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not [
            c for c in java.connections("tcp") if c.status != psutil.CONN_LISTEN and c.laddr[1] == server.address[1]
        ]:
            return
        await asyncio.sleep(0.05)


def measured(server: Server) -> dict[str, float]:
    processes = server.processes()
    java = server.java().pid
    own = {process.pid: process.memory_full_info().uss / 2**20 for process in processes}
    return {
        "workers_mb": sum(size for pid, size in own.items() if pid != java),
        "java_mb": own[java],
        "descriptors": sum(process.num_fds() for process in processes),
        "threads": sum(process.num_threads() for process in processes),
        "files": files(server.scratch),
    }


def files(directory: Path) -> int:
    count = 0
    with suppress(OSError):  # one that was there a moment ago
        count = sum(1 for _ in directory.rglob("*"))
    return count


if __name__ == "__main__":
    sys.exit(main())
