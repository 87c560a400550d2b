"""How many processors the container may use. Java, which starts a worker for each, counts the same way."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or the quota and the period; cgroup 2


def processors() -> int:
    """At least one: those that the process may run on, or the container's limit if that is lower."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = QUOTA.read_text().split()
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)
