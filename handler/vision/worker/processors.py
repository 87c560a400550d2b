"""How many threads a worker uses: its own share while others work too, every processor while it works alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# OpenMP's threads wait for each other in a busy loop, unless this is PASSIVE when torch is imported. Beside another
# process on the same processors such a loop makes two threads ten times as slow as one.
WAIT_POLICY = "OMP_WAIT_POLICY"

# A container's limit, as cgroups of version 2 and 1 have it: "200000 100000" are two processors, "max" or -1 all.
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
CFS_QUOTA, CFS_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


class Processors:
    """The processors of this machine or container, which the workers of one model share.

    meeting_point: a file that all these workers can read. Each holds a lock on it while it works; the lock ends with
        its process.
    share: threads of a worker beside which others work.
    """

    def __init__(self, meeting_point: Path, share: int) -> None:
        self._file = os.open(meeting_point, os.O_RDONLY)  # for as long as the worker lives
        self._share = share
        passive = os.environ.get(WAIT_POLICY, "").upper() == "PASSIVE"
        self._all = max(share, available()) if passive else share

    @contextmanager
    def lend(self, lone: bool) -> Iterator[int]:
        """While a batch is worked on: how many threads to use for it.

        lone: one request alone came. Only then can it be that the others have nothing to do.
        """
        alone = lone and self._lock(fcntl.LOCK_EX)
        self._lock(fcntl.LOCK_SH)  # in exchange for the other lock: who comes now sees that somebody works
        try:
            yield self._all if alone else self._share
        finally:
            self._lock(fcntl.LOCK_UN)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except OSError:  # another worker has a lock; or locks do not exist on this file system
            return False
        return True


def available() -> int:
    """Processors that this process may use: those that it is bound to, within the container's limit; at least one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in ((CPU_MAX,), (CFS_QUOTA, CFS_PERIOD)):
        try:
            quota, period = " ".join(file.read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        return bound if quota in ("max", "-1") else max(1, min(bound, int(quota) // int(period)))
    return bound
