"""How many threads a worker uses: its own share while others are working, all processors while it works alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# OpenMP's threads wait for each other in a busy loop, unless this is PASSIVE when torch is imported. If another
# process uses the same processors, such a loop makes two threads ten times slower than one.
WAIT_POLICY = "OMP_WAIT_POLICY"

# A container's limit in cgroup v2 and v1: "200000 100000" means two processors, "max" or -1 means all.
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
CFS_QUOTA, CFS_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


class Processors:
    """The processors of this machine or container, shared by the workers of one model.

    meeting_point: a file that all these workers can read. Each holds a lock on it while it works; the lock ends with
        its process.
    share: the threads of a worker while others are working too.
    """

    def __init__(self, meeting_point: Path, share: int) -> None:
        self._file = os.open(meeting_point, os.O_RDONLY)  # for as long as the worker lives
        self._share = share
        passive = os.environ.get(WAIT_POLICY, "").upper() == "PASSIVE"
        self._all = max(share, available()) if passive else share

    @contextmanager
    def lend(self, lone: bool) -> Iterator[int]:
        """The number of threads to use for a batch, while it is being worked on.

        lone: the batch has a single request. Only then may the other workers be idle.
        """
        alone = lone and self._lock(fcntl.LOCK_EX)
        self._lock(fcntl.LOCK_SH)  # replaces the other lock, and shows other workers that we are busy
        try:
            yield self._all if alone else self._share
        finally:
            self._lock(fcntl.LOCK_UN)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except OSError:  # another worker has a lock, or this file system has no locks
            return False
        return True


def available() -> int:
    """How many processors this process may use: those it is bound to, within the container's limit; at least one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in ((CPU_MAX,), (CFS_QUOTA, CFS_PERIOD)):
        try:
            quota, period = " ".join(file.read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        return bound if quota in ("max", "-1") else max(1, min(bound, int(quota) // int(period)))
    return bound
