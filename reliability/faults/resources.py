"""Resources run out, or jump: disk, log, memory, processor time, the clock."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import sys
import termios
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from subprocess import DEVNULL, run

import psutil

from reliability.cgroups import Impossible, control_group
from reliability.faults.load import loaded, serves_again, steady, until
from reliability.faults.outcome import Figures, Outcome, batches, judged, seen
from reliability.faults.processes import ended_with_its_clients, killed_workers
from reliability.servers import OURS, Server, Servers

UNDER_UNSHARE = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c"]
BALLAST = 256 << 20  # bytes, four times what the limit leaves
SMALL_DISK_MB = 320  # enough for the unpacked archive, and a little more
FULL_BELOW = 64 << 10  # bytes free
JUMP_AT_LEAST_S = 23 * 3600  # of a day


async def disk_full(servers: Servers) -> Outcome:
    """The temporary disk is full while a worker is killed and must come back."""
    tmpfs = f'mount -t tmpfs -o size={SMALL_DISK_MB}m tmpfs "$TMPDIR"'
    mount = (
        f'cd "$TMPDIR" && {tmpfs} && cp -a . "$TMPDIR" && cd "$TMPDIR" && exec "$@"'  # with the files that are there
    )
    if run([*UNDER_UNSHARE, "true"], stdout=DEVNULL, stderr=DEVNULL, check=False).returncode:
        raise Impossible("no mount namespace can be made here (this needs root)")
    with servers.started(before=[*UNDER_UNSHARE, mount, "sh"]) as server:
        disk = Path(f"/proc/{server.java().pid}/root") / str(server.scratch).lstrip("/")
        with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):  # ENOSPC, which is checked below
            while True:
                filler.write(bytes(1 << 16))
        disk_state = os.statvfs(disk)
        free = disk_state.f_bavail * disk_state.f_bsize
        async with loaded(server) as load:
            outcome = await killed_workers(server, load, 1)
        not_full = [f"the disk was not full: {free} bytes were free"] if free >= FULL_BELOW else []
        return replace(outcome, failed=outcome.failed + not_full, own=outcome.own | {"free_bytes": free})


async def log_full(servers: Servers) -> Outcome:
    """Writing to the log fails with ENOSPC, while workers are killed, and then the server is told to end."""
    with servers.started(before=["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh"]) as server:
        async with loaded(server) as load:
            at = time.monotonic()
            kills = 3
            for _ in range(kills):
                await one_worker_replaced(server)
                await serves_again(load)
                await steady()
            unread = bytes_in_pipe(server.java())
            ended = await ended_with_its_clients(server, load)
            after = seen(server, load, at, in_flight=batches(server, kills))
            stuck = unread and "nobody reads Java's log: it blocks when the pipe is full"
            crashed = server.kind == OURS and server.ended() != 0 and "it did not end cleanly"
            own: Figures = {"unread_log_bytes": unread, "ended_s": ended, "exit_status": server.ended()}
            return judged(after, stuck or crashed, own=own)


async def one_worker_replaced(server: Server) -> None:
    old = {worker.pid for worker in server.workers()}
    server.workers()[0].kill()
    await until(lambda: {worker.pid for worker in server.workers()} - old)


def bytes_in_pipe(java: psutil.Process) -> int:
    """Bytes that Java has printed and nobody has read; 0 if it does not print to a pipe."""
    with open(f"/proc/{java.pid}/fd/1", "rb", opener=lambda path, _: os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as out:
        size = bytearray(4)
        try:
            fcntl.ioctl(out, termios.FIONREAD, size)
        except OSError:
            return 0
    return int.from_bytes(size, sys.byteorder)


async def memory_full(servers: Servers) -> Outcome:
    """The memory limit is reached: the kernel kills the largest process of the container, which is a worker."""
    with control_group("memory") as group, servers.started(before=group.before()) as server:
        async with loaded(server) as load:
            at = time.monotonic()
            before = {worker.pid for worker in server.workers()}
            group.limit_memory(group.memory_used() + (64 << 20))
            ballast = Path(f"/dev/shm/reliability-{os.getpid()}")  # counts as memory of the group that writes it
            command = [*group.before(), "sh", "-c", f"exec head -c {BALLAST} /dev/zero > {ballast}"]
            try:
                writing = psutil.Popen([str(word) for word in command])
                killed = await until(lambda: {worker.pid for worker in server.workers()} != before, 20)
            finally:
                writing.kill()
                writing.wait()
                group.limit_memory(None)
                ballast.unlink(missing_ok=True)
            await until(lambda: len(server.workers()) == len(before))
            again = await serves_again(load)
            await steady()
            await load.leave()
            after = seen(server, load, at, batches(server, len(before)))
            own = {"killed_by_kernel_s": killed}
            nothing = killed is None and "the kernel killed no worker"
            return judged(after, nothing or (not again and "it did not serve again"), own=own)


async def cpu_throttled(servers: Servers) -> Outcome:
    """A tenth of the processors for ten seconds."""
    with control_group("cpu") as group, servers.started(before=group.before()) as server:
        async with loaded(server) as load:
            at = time.monotonic()
            group.limit_cpu((os.cpu_count() or 1) / 10)
            await asyncio.sleep(10)
            group.limit_cpu(None)
            released = time.monotonic()
            again = await serves_again(load)
            back = time.monotonic() - released
            await steady()
            await load.leave()
            after = seen(server, load, at, in_flight=0, serves=False)  # it is slow, but serves
            not_again = not again and "it did not serve again"
            return judged(after, not_again, own={"serves_after_release_s": back})


async def clock_jumps(servers: Servers) -> Outcome:
    """The wall clock jumps a day ahead, and then two days back; the monotonic clock does not change.

    Without Envoy: with libfaketime, it hangs before it has read its settings.
    """
    library = os.environ.get("LIBFAKETIME") or next(
        (str(file) for file in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None
    )
    if library is None:
        raise Impossible("libfaketime is not installed (Debian: apt-get install libfaketime)")
    offset = Path(f"/tmp/reliability-clock-{os.getpid()}")
    offset.write_text("+0d")
    variables = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(offset)}
    variables |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1", "FRONT_DOOR": "none"}
    try:
        with servers.started(variables=variables) as server:
            async with loaded(server) as load:
                at = time.monotonic()
                for jump in ("+1d", "-1d"):
                    offset.write_text(jump)
                    await steady()
                await load.leave()
                after = seen(server, load, at, in_flight=0)
                # Nothing is under way any more. A starting worker makes Java log lines, with its current time.
                server.workers()[0].kill()
                moved = await until(lambda: logged_span_s(server.log()) > JUMP_AT_LEAST_S)
                return judged(after, moved is None and "the clock of the server did not jump")
    finally:
        offset.unlink()


def logged_span_s(log: str) -> float:
    """From the earliest time in a log to the latest. They are only compared with each other, so any time zone works."""
    times = [datetime.fromisoformat(time) for time in re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", log)]
    return (max(times) - min(times)).total_seconds() if times else 0
