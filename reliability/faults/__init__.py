"""The faults: what happens to a server under load, and what its clients then see. Each is one function."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from reliability.cgroups import Impossible
from reliability.faults.outcome import Outcome
from reliability.faults.processes import (
    all_workers_killed,
    envoy_killed,
    java_killed,
    preempted,
    terminated,
    worker_killed,
)
from reliability.faults.resources import clock_jumps, cpu_throttled, disk_full, log_full, memory_full
from reliability.faults.traffic import clients_vanish, idle_connections, overload, slow_uploads
from reliability.servers import Servers

Fault = Callable[[Servers], Coroutine[Any, Any, Outcome]]

TIMEOUT_S = 150
FAULTS: dict[str, Fault] = {
    "worker_killed": worker_killed,
    "all_workers_killed": all_workers_killed,
    "java_killed": java_killed,
    "envoy_killed": envoy_killed,
    "terminated": terminated,
    "preempted": preempted,
    "disk_full": disk_full,
    "log_full": log_full,
    "memory_full": memory_full,
    "cpu_throttled": cpu_throttled,
    "clock_jumps": clock_jumps,
    "clients_vanish": clients_vanish,
    "idle_connections": idle_connections,
    "slow_uploads": slow_uploads,
    "overload": overload,
}


def tried(name: str, servers: Servers) -> Outcome:
    """Always returns an outcome, whatever happens."""
    began = time.monotonic()
    try:
        outcome = asyncio.run(asyncio.wait_for(FAULTS[name](servers), TIMEOUT_S))
    except Impossible as reason:
        outcome = Outcome([], skipped=str(reason))
    except TimeoutError:
        outcome = Outcome([f"the case did not end within {TIMEOUT_S} s"])
    except Exception as error:
        outcome = Outcome([f"{type(error).__name__}: {error}"[:300]])
    return replace(outcome, took_s=time.monotonic() - began)
