"""Many requests, and whether the server grows: memory, descriptors, threads, temporary files.

The first tenth of the requests warms the server up. From then on it is measured after every tenth, with nothing under
way. The first two measurements are compared with the last two.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from reliability.clients import ANSWERED, Load
from reliability.servers import Server, Servers

REQUESTS = 100_000  # by default
CLIENTS = 32
PARTS = 10
# The growth that is allowed. A JVM's heap grows until it is collected: its limit is in config.properties, -Xmx.
ALLOWED = {"workers_mb": 20.0, "java_mb": 100.0, "descriptors": 5, "threads": 5, "files": 0}


@dataclass(frozen=True)
class Size:
    """Totals over a server's processes: private memory in MiB, and counts. files: in its temporary folder."""

    workers_mb: float
    java_mb: float
    descriptors: int
    threads: int
    files: int


@dataclass(frozen=True)
class Soak:
    """asked: how many requests to send. outcomes: how many had each. sizes: after each part."""

    date: str
    asked: int
    requests: int
    seconds: float
    outcomes: dict[str, int]
    sizes: list[Size]

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Soak:
        """From the dictionary that `asdict` made."""
        return cls(**stored | {"sizes": [Size(**size) for size in stored["sizes"]]})

    @property
    def failed(self) -> list[str]:
        """What grew more than allowed, and requests without an answer."""
        growth = {name: mean(self.sizes[-2:], name) - mean(self.sizes[1:3], name) for name in ALLOWED}
        failed = [f"{name}: {growth[name]:+.1f}" for name, bound in ALLOWED.items() if growth[name] > bound]
        return failed + [f"{count} × {outcome}" for outcome, count in self.outcomes.items() if outcome != ANSWERED]


def tried(servers: Servers, requests: int, say: Callable[[str], None]) -> Soak:
    """Sends them to its own server."""
    with servers.started() as server:
        return asyncio.run(soaked(server, requests, say))


async def soaked(server: Server, requests: int, say: Callable[[str], None]) -> Soak:
    began = time.monotonic()
    outcomes: Counter[str] = Counter()
    sizes = []
    for part in range(PARTS + 1):
        async with Load(server.address, server.form, CLIENTS) as load:
            while len(load.replies) < requests // (PARTS + 1):
                await asyncio.sleep(0.02)
            await load.leave()
        outcomes += load.outcomes()
        await connections_ended(server)
        sizes.append(measured(server))
        say(f"{part + 1}/{PARTS + 1}: {asdict(sizes[-1])}")
    seconds = time.monotonic() - began
    return Soak(time.strftime("%Y-%m-%d"), requests, outcomes.total(), seconds, dict(outcomes), sizes)


def mean(sizes: list[Size], name: str) -> float:
    return sum(float(getattr(size, name)) for size in sizes) / len(sizes)


async def connections_ended(server: Server) -> None:
    """Waits until the front end has closed the clients' connections."""
    java = server.java()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not [
            c for c in java.connections("tcp") if c.status != psutil.CONN_LISTEN and c.laddr[1] == server.address[1]
        ]:
            return
        await asyncio.sleep(0.05)


def measured(server: Server) -> Size:
    processes = server.processes()
    java = server.java().pid
    own = {process.pid: process.memory_full_info().uss / 2**20 for process in processes}
    return Size(
        workers_mb=sum(size for pid, size in own.items() if pid != java),
        java_mb=own[java],
        descriptors=sum(process.num_fds() for process in processes),
        threads=sum(process.num_threads() for process in processes),
        files=files(server.scratch),
    )


def files(directory: Path) -> int:
    count = 0
    with suppress(OSError):  # a file that has just been removed
        count = sum(1 for _ in directory.rglob("*"))
    return count
