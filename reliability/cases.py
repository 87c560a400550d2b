"""The faults, one function each: what is done to a server under load, and what its clients then see.

A case returns figures (times in seconds), and under `failed` what should not have been.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Any

import psutil
from ts.model_server import load_properties

from reliability.cgroups import Impossible, control_group
from reliability.clients import ANSWERED, HANGING, REFUSED, ROUTE, WRONG, Load, connected
from reliability.servers import CHECKOUT, OURS, Server, Servers

Figures = dict[str, Any]
Case = Callable[[Servers], Awaitable[Figures]]

CLIENTS = 48  # more than all workers have in their batches, so that some requests wait in the queue
WARM_UP_S = 2
STEADY_S = 3  # of load after the fault is over, in which nothing may be lost
SERVE_AGAIN_S = 5  # the target, beyond the model's load time
RECOVERY_S = 60  # how long is waited for it
BATCH = {OURS: 16}  # requests that a worker has at most: handler/model-config.yaml; the stock envelope takes one
BUSY = "503"  # a full queue
QUEUE = int(load_properties(str(CHECKOUT / "config.properties"))["job_queue_size"])
ROOM = 3  # times what a full queue takes, for the slowest of the requests that were accepted
OVERLOADED = 5  # times the capacity: what is asked for at least

UNDER_UNSHARE = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c"]
BALLAST = 256 << 20  # bytes, four times what the limit leaves
SMALL_DISK_MB = 320  # as much as the unpacked archive and some
FULL_BELOW = 64 << 10  # bytes free
JUMP_AT_LEAST_S = 23 * 3600  # of a day


async def worker_killed(servers: Servers) -> Figures:
    """SIGKILL to one worker."""
    with servers.started() as server:
        async with loaded(server, servers) as load:
            return await killed_workers(server, load, 1)


async def all_workers_killed(servers: Servers) -> Figures:
    """SIGKILL to every worker."""
    with servers.started() as server:
        async with loaded(server, servers) as load:
            return await killed_workers(server, load, len(server.workers()))


async def killed_workers(server: Server, load: Load, count: int) -> Figures:
    before = len(server.workers())
    at = time.monotonic()
    victims = server.workers()[:count]
    for worker in victims:
        worker.send_signal(signal.SIGKILL)
    gone = {worker.pid for worker in victims}
    whole = await until(lambda: len({w.pid for w in server.workers()} - gone) == before, RECOVERY_S)
    await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)
    await asyncio.sleep(STEADY_S)
    await load.leave()
    figures = seen(load, at, server, in_flight=count * BATCH.get(server.kind, 1))
    figures["workers_again_s"] = whole
    return figures | judged(figures, server, whole is None and "the workers did not come back")


async def java_killed(servers: Servers) -> Figures:
    """SIGKILL to the Java process: the container ends, and is started again, as the kubelet would."""
    with servers.started() as server:
        async with loaded(server, servers) as load:
            at = time.monotonic()
            server.java().send_signal(signal.SIGKILL)
            ended = await until(lambda: server.ended() is not None, RECOVERY_S)
            status = server.ended()
            orphans = await until(lambda: not server.processes(), RECOVERY_S if server.kind == OURS else 5)
            server.group.__exit__(None, None, None)
            with servers.started(server.ports) as again:
                await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)
                await asyncio.sleep(STEADY_S)
                await load.leave()
                figures = seen(load, at, again, in_flight=CLIENTS)
    figures |= {"noticed_s": ended, "exit_status": status, "workers_gone_s": orphans}
    not_noticed = ended is None and "the container did not end"
    return figures | judged(figures, again, not_noticed or (status == 0 and "the container ended with status 0"))


async def terminated(servers: Servers) -> Figures:
    """SIGTERM, and half a second later the clients leave, each after its answer: what a rolling update does."""
    with servers.started() as server:
        async with loaded(server, servers) as load:
            at = time.monotonic()
            server.leader().terminate()
            ending = asyncio.create_task(container_ended(server))
            await asyncio.sleep(0.5)
            await load.leave()
            ended = await ending
            figures = seen(load, at, server, in_flight=0) | {"ended_s": ended}
            figures.pop("outage_s")  # it ended
            return figures | judged(figures, server, ended is None and "the server did not end")


async def disk_full(servers: Servers) -> Figures:
    """The temporary disk is full while a worker is killed and has to come back."""
    tmpfs = f'mount -t tmpfs -o size={SMALL_DISK_MB}m tmpfs "$TMPDIR"'
    mount = f'cd "$TMPDIR" && {tmpfs} && cp -a . "$TMPDIR" && cd "$TMPDIR" && exec "$@"'  # with what lies there
    if run([*UNDER_UNSHARE, "true"], stdout=DEVNULL, stderr=DEVNULL, check=False).returncode:
        raise Impossible("no mount namespace can be made here (it takes root)")
    with servers.started(before=[*UNDER_UNSHARE, mount, "sh"]) as server:
        disk = Path(f"/proc/{server.java().pid}/root") / str(server.scratch).lstrip("/")
        with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):  # ENOSPC, as is judged below
            while True:
                filler.write(bytes(1 << 16))
        disk_state = os.statvfs(disk)
        free = disk_state.f_bavail * disk_state.f_bsize
        async with loaded(server, servers) as load:
            figures = await killed_workers(server, load, 1)
        if free >= FULL_BELOW:
            figures["failed"].append(f"the disk was not full: {free} bytes were free")
        return figures | {"free_bytes": free}


async def log_full(servers: Servers) -> Figures:
    """Writing to the log fails with ENOSPC, while workers are killed, and then the server is told to end."""
    with servers.started(before=["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh"]) as server:
        async with loaded(server, servers) as load:
            at = time.monotonic()
            kills = 3
            for _ in range(kills):
                before = {worker.pid for worker in server.workers()}
                server.workers()[0].kill()
                await until(lambda old=before: len({w.pid for w in server.workers()} | old) > len(old), RECOVERY_S)
                await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)
                await asyncio.sleep(STEADY_S)
            unread = bytes_in_pipe(server.java())
            server.leader().terminate()
            ending = asyncio.create_task(container_ended(server))
            await asyncio.sleep(0.5)
            await load.leave()
            ended = await ending
            figures = seen(load, at, server, in_flight=kills * BATCH.get(server.kind, 1))
            figures |= {"unread_log_bytes": unread, "ended_s": ended}
            stuck = unread and "nobody reads what Java logs: it stands still when the pipe is full"
            figures["exit_status"] = server.ended()
            crashed = server.kind == OURS and server.ended() != 0 and "it did not end in order"
            return figures | judged(figures, server, stuck or crashed)


async def container_ended(server: Server) -> float | None:
    """With its first process a container ends, and what still runs in it is killed."""
    ended = await until(lambda: server.ended() is not None, RECOVERY_S)
    for process in server.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return ended


def bytes_in_pipe(java: psutil.Process) -> int:
    """What Java has printed and nobody has read; 0 where it prints to no pipe."""
    with open(f"/proc/{java.pid}/fd/1", "rb", opener=lambda path, _: os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as out:
        size = bytearray(4)
        try:
            fcntl.ioctl(out, termios.FIONREAD, size)
        except OSError:
            return 0
    return int.from_bytes(size, sys.byteorder)


async def memory_full(servers: Servers) -> Figures:
    """The memory limit is reached: the kernel kills the largest process of the container, which is a worker."""
    with control_group("memory") as group, servers.started(before=group.before()) as server:
        async with loaded(server, servers) as load:
            at = time.monotonic()
            before = {worker.pid for worker in server.workers()}
            group.limit_memory(group.memory_used() + (64 << 20))
            ballast = Path(f"/dev/shm/chaos-{os.getpid()}")  # counts as memory of the group that has written it
            command = [*group.before(), "sh", "-c", f"exec head -c {BALLAST} /dev/zero > {ballast}"]
            try:
                writing = psutil.Popen([str(word) for word in command])
                killed = await until(lambda: {worker.pid for worker in server.workers()} != before, 20)
            finally:
                writing.kill()
                writing.wait()
                group.limit_memory(None)
                ballast.unlink(missing_ok=True)
            await until(lambda: len(server.workers()) == len(before), RECOVERY_S)
            again = await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)
            await asyncio.sleep(STEADY_S)
            await load.leave()
            figures = seen(load, at, server, in_flight=len(before) * BATCH.get(server.kind, 1))
            figures["killed_by_kernel_s"] = killed
            nothing = killed is None and "the kernel killed no worker"
            return figures | judged(figures, server, nothing or (not again and "it did not serve again"))


async def cpu_throttled(servers: Servers) -> Figures:
    """A tenth of the processors for ten seconds."""
    with control_group("cpu") as group, servers.started(before=group.before()) as server:
        async with loaded(server, servers) as load:
            at = time.monotonic()
            group.limit_cpu((os.cpu_count() or 1) / 10)
            await asyncio.sleep(10)
            group.limit_cpu(None)
            released = time.monotonic()
            again = await load.answered_since(released, CLIENTS, RECOVERY_S)
            back = time.monotonic() - released
            await asyncio.sleep(STEADY_S)
            await load.leave()
            figures = seen(load, at, server, in_flight=0) | {"serves_after_release_s": back}
            figures.pop("outage_s")  # it is slow, and serves
            return figures | judged(figures, server, not again and "it did not serve again")


async def clock_jumps(servers: Servers) -> Figures:
    """The wall clock jumps a day ahead, and then two days back; the clock that only counts stays as it is."""
    library = os.environ.get("LIBFAKETIME") or next(
        (str(file) for file in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None
    )
    if library is None:
        raise Impossible("libfaketime is not here (Debian: apt-get install libfaketime)")
    offset = Path(f"/tmp/chaos-clock-{os.getpid()}")
    offset.write_text("+0d")
    try:
        with servers.started(
            LD_PRELOAD=library,
            FAKETIME_TIMESTAMP_FILE=str(offset),
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_NO_CACHE="1",
        ) as server:
            async with loaded(server, servers) as load:
                at = time.monotonic()
                for jump in ("+1d", "-1d"):
                    offset.write_text(jump)
                    await asyncio.sleep(STEADY_S)
                await load.leave()
                figures = seen(load, at, server, in_flight=0)
                # Nothing is under way any more. A worker that starts makes Java log lines, with the time that it has.
                server.workers()[0].kill()
                moved = await until(lambda: logged_span_s(server.log()) > JUMP_AT_LEAST_S, RECOVERY_S)
                return figures | judged(figures, server, moved is None and "the clock of the server did not jump")
    finally:
        offset.unlink()


def logged_span_s(log: str) -> float:
    """From the earliest time in a log to the latest; compared with each other, they may be of any time zone."""
    times = [datetime.fromisoformat(time) for time in re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", log)]
    return (max(times) - min(times)).total_seconds() if times else 0


async def clients_vanish(servers: Servers) -> Figures:
    """For three seconds, clients send half a request or a whole one, and then reset the connection."""
    with servers.started() as server:
        async with loaded(server, servers) as load:
            at, vanished = time.monotonic(), 0
            while time.monotonic() - at < STEADY_S:
                for number, request in enumerate(load.requests):
                    connection = await connected(server.address)
                    connection.writer.write(request if number % 2 else request[: len(request) // 2])
                    await asyncio.sleep(0.01)
                    reset(connection.writer)
                    vanished += 1
            await asyncio.sleep(STEADY_S)
            await load.leave()
            figures = seen(load, at, server, in_flight=0) | {"vanished": vanished}
            return figures | judged(figures, server, False)


def reset(writer: asyncio.StreamWriter) -> None:
    """RST rather than FIN."""
    opened: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):  # the server has closed it already
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def idle_connections(servers: Servers, count: int = 1000) -> Figures:
    """Connections that say nothing, half a head, or half a body, and stay."""
    with servers.started() as server:
        java = server.java()
        async with loaded(server, servers) as load:
            at, before = time.monotonic(), java.num_fds()
            kinds = (b"", f"POST {ROUTE} HTTP/1.1\r\nHost: ".encode(), load.requests[0][:2000])
            idle = []
            for number in range(count):
                idle.append(await connected(server.address))
                idle[-1].writer.write(kinds[number % len(kinds)])
            await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)
            await asyncio.sleep(STEADY_S)
            held = java.num_fds() - before
            for connection in idle:
                connection.close()
            freed = await until(lambda: java.num_fds() <= before + CLIENTS, 10)
            await load.leave()
            figures = seen(load, at, server, in_flight=0)
            figures |= {"idle": count, "descriptors": held, "descriptors_free_again_s": freed}
            return figures | judged(figures, server, freed is None and "descriptors of closed connections stay open")


async def overload(servers: Servers, clients: int = 1000, seconds: float = 10) -> Figures:
    """First the capacity, with as many clients as keep the server busy; then many more than its queue holds.

    The pause after a refusal is that of clients who ask for ten times the capacity. They come to about seven times: a
    thousand of them in one Python process, on the server's own processors, can do no more. `offered_per_s` is what they
    did ask for.
    """
    with servers.started() as server:
        async with loaded(server, servers, clients=64) as few:
            began = time.monotonic()
            await asyncio.sleep(5)
            capacity = few.outcomes(began)[ANSWERED] / (time.monotonic() - began)
        pause = clients / (10 * capacity)  # after a refusal: at most ten times the capacity is asked for
        async with Load(server.address, servers.form, clients, refused_pause_s=pause) as many:
            at = time.monotonic()
            await asyncio.sleep(seconds)
            took = time.monotonic() - at
            asked = sum(reply.sent < at + seconds for reply in many.replies) + clients
            answered = many.outcomes()[ANSWERED] / took
            refused = sorted(reply.ended - reply.sent for reply in many.replies if reply.outcome == BUSY)
            await many.leave()
        figures = seen(many, at, server, in_flight=0)
        figures |= {
            "capacity_per_s": capacity,
            "offered_per_s": asked / took,
            "answered_per_s": answered,
            "refused_p50_s": refused[len(refused) // 2] if refused else None,
            "retry_after": any("retry-after" in r.headers.lower() for r in many.replies if r.outcome == BUSY),
        }
        held = QUEUE + len(server.workers()) * BATCH.get(server.kind, 1)
        return figures | judged(figures, server, *(overload_faults(figures, held) if server.kind == OURS else ()))


def overload_faults(figures: Figures, held: int) -> list[str]:
    """held: requests that the queue and the workers have at most, by the configuration. What comes after is refused."""
    failed = []
    if not figures["outcomes"].get(BUSY):
        failed.append("nothing was refused")
    if figures["offered_per_s"] < OVERLOADED * figures["capacity_per_s"]:
        failed.append(f"the clients asked for less than {OVERLOADED} times the capacity")
    longest = ROOM * held / figures["answered_per_s"] if figures["answered_per_s"] else 0
    if figures["latency_p99_s"] is not None and figures["latency_p99_s"] > longest:
        failed.append(f"what was accepted took longer than {longest:.1f} s (p99)")
    return failed


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        worker_killed,
        all_workers_killed,
        java_killed,
        terminated,
        disk_full,
        log_full,
        memory_full,
        cpu_throttled,
        clock_jumps,
        clients_vanish,
        idle_connections,
        overload,
    )
}


# --- What they share --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def loaded(server: Server, servers: Servers, clients: int = CLIENTS) -> AsyncIterator[Load]:
    async with Load(server.address, servers.form, clients) as load:
        await load.answered_since(time.monotonic(), clients, RECOVERY_S)
        await asyncio.sleep(WARM_UP_S)
        yield load


async def until(condition: Callable[[], object], within_s: float) -> float | None:
    """The seconds until it holds; None where it did not within the time."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        if condition():
            return time.monotonic() - began
        await asyncio.sleep(0.05)
    return None


def seen(load: Load, at: float, server: Server, in_flight: int) -> Figures:
    """What the clients saw since the fault at `at`. in_flight: requests that it may take with it."""
    after = sorted((reply for reply in load.replies if reply.ended >= at), key=lambda reply: reply.ended)
    answered = [reply for reply in after if reply.outcome == ANSWERED]
    lost = [reply for reply in after if reply.outcome not in (ANSWERED, BUSY, REFUSED)]
    ends = [at, *(reply.ended for reply in answered)]
    latencies = sorted(reply.ended - reply.sent for reply in answered)
    return {
        "start_s": server.start_s,
        "outcomes": dict(load.outcomes(at)),
        "lost": len(lost),
        "in_flight": in_flight,
        "lost_beyond": max(0, len(lost) - in_flight),
        "outage_s": max((later - earlier for earlier, later in zip(ends, ends[1:])), default=None),  # noqa: RUF007
        "latency_p50_s": latencies[len(latencies) // 2] if latencies else None,
        "latency_p99_s": latencies[int(len(latencies) * 0.99)] if latencies else None,
        "latency_max_s": latencies[-1] if latencies else None,
        "bodies": {reply.outcome: reply.body.decode(errors="replace") for reply in after if reply.outcome != ANSWERED},
    }


def judged(figures: Figures, server: Server, *otherwise: object) -> Figures:
    """What should not have been: a hang or a wrong answer ever, other losses beyond the batch in flight."""
    failed = [str(fault) for fault in otherwise if fault]
    outcomes = figures["outcomes"]
    failed += [f"{outcomes[kind]} × {kind}" for kind in (HANGING, WRONG) if outcomes.get(kind)]
    if figures["lost_beyond"]:
        failed.append(f"{figures['lost_beyond']} requests lost beyond what was in flight")
    if figures.get("outage_s", 0) is None:
        failed.append("nothing was answered afterwards")
    elif figures.get("outage_s", 0) > server.start_s + SERVE_AGAIN_S:
        failed.append(f"no answer for {figures['outage_s']:.1f} s")
    return {"failed": failed}
