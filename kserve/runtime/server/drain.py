"""Shutdown without losing requests: everything keeps running until no client is connected."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from server import log, variables

# Meanwhile the pod is removed from its Service, which takes seconds. The total must stay below the grace period.
DRAIN_AT_LEAST_S = variables.seconds("DRAIN_AT_LEAST_S", 15)
DRAIN_AT_MOST_S = variables.seconds("DRAIN_AT_MOST_S", 60)
POLL_S = 0.1

TCP_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"  # https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html


def drain(port: int, alive: Callable[[], bool]) -> None:
    """Waits until no client is connected. Running requests and new ones are still answered.

    alive: called on each check; if false, there is nothing to wait for.
    """
    began = time.monotonic()
    log.say("INFO", "asked to stop: waiting for clients to leave")
    while alive():
        waited, clients = time.monotonic() - began, connections(port)
        if clients == 0 and waited >= min(DRAIN_AT_LEAST_S, DRAIN_AT_MOST_S):
            return
        if waited >= DRAIN_AT_MOST_S:
            still = f"{clients} clients are still connected after {waited:.0f} s: closing their connections"
            log.say("WARNING", still)
            return
        time.sleep(POLL_S)


def connections(port: int) -> int:
    """The number of established connections to a port of this machine."""
    count = 0
    for table in TCP_TABLES:
        if not table.exists():  # the kernel was started without IPv6
            continue
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            count += state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port
    return count
