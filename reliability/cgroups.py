"""A separate control group, for a limit on memory or processor time; version 1 and version 2."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


class Impossible(Exception):
    """A case cannot be tried here; the message is one line."""


class ControlGroup:
    def __init__(self, directory: Path, version: int) -> None:
        self.directory, self._version = directory, version

    def before(self) -> list[object]:
        """Words to put before a command, so that it and everything it starts run in this group."""
        return ["sh", "-c", f'echo $$ > {self.directory}/cgroup.procs && exec "$@"', "sh"]

    def add(self, pid: int) -> None:
        (self.directory / "cgroup.procs").write_text(str(pid))

    def memory_used(self) -> int:
        """In bytes, without the file cache, which the kernel can reclaim."""
        name = "memory.usage_in_bytes" if self._version == 1 else "memory.current"
        lines = dict(line.split() for line in (self.directory / "memory.stat").read_text().splitlines())
        cached = sum(int(lines[f"{kind}_file"]) for kind in ("active", "inactive"))
        return int((self.directory / name).read_text()) - cached

    def limit_memory(self, size: int | None) -> None:
        """In bytes; None lifts the limit."""
        if self._version == 1:
            (self.directory / "memory.limit_in_bytes").write_text(str(-1 if size is None else size))
        else:
            (self.directory / "memory.max").write_text("max" if size is None else str(size))

    def limit_cpu(self, processors: float | None) -> None:
        """None lifts the limit."""
        if self._version == 1:
            quota = -1 if processors is None else int(processors * PERIOD_US)
            (self.directory / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            quota_v2 = "max" if processors is None else str(int(processors * PERIOD_US))
            (self.directory / "cpu.max").write_text(f"{quota_v2} {PERIOD_US}")


@contextmanager
def control_group(controller: str) -> Iterator[ControlGroup]:
    """controller: memory or cpu. Raises Impossible if none can be made, for lack of rights or of a controller."""
    version = 2 if (ROOT / "cgroup.controllers").exists() else 1
    directory = (ROOT if version == 2 else ROOT / controller) / f"reliability-{uuid.uuid4().hex[:8]}"
    try:
        directory.mkdir()
    except OSError as error:
        raise Impossible(f"no control group can be made here ({error.strerror})") from None
    try:
        wanted = {1: {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us"}}.get(
            version, {"memory": "memory.max", "cpu": "cpu.max"}
        )[controller]
        if not os.access(directory / wanted, os.W_OK):
            raise Impossible(f"a control group has no {wanted} here")
        yield ControlGroup(directory, version)
    finally:
        _remove(directory)


def _remove(directory: Path) -> None:
    """Removes it once its processes have ended, which takes the kernel a moment."""
    for _ in range(100):
        with suppress(OSError):
            directory.rmdir()
            return
        time.sleep(0.02)
