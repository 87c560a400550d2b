"""Processes that end: workers, Java, the whole server."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress

import psutil

from reliability.clients import Load
from reliability.faults.load import CLIENTS, RECOVERY_S, loaded, serves_again, steady, until
from reliability.faults.outcome import Outcome, batches, judged, seen
from reliability.servers import OURS, Server, Servers

DOOR_AGAIN_S = 5

# A spot node that GKE removes within 15 s, and the settings of kserve/components/short-shutdown for a pod there.
NOTICE_S = 15
SHORT_SHUTDOWN = {"DRAIN_AT_LEAST_S": "10", "DRAIN_AT_MOST_S": "12"}
FORGOTTEN_S = 8  # until the cluster sends no more requests here: it notices within 5 s that the node is not ready


async def worker_killed(servers: Servers) -> Outcome:
    """SIGKILL to one worker."""
    with servers.started() as server:
        async with loaded(server) as load:
            return await killed_workers(server, load, 1)


async def all_workers_killed(servers: Servers) -> Outcome:
    """SIGKILL to every worker."""
    with servers.started() as server:
        async with loaded(server) as load:
            return await killed_workers(server, load, len(server.workers()))


async def killed_workers(server: Server, load: Load, count: int) -> Outcome:
    before = len(server.workers())
    at = time.monotonic()
    victims = server.workers()[:count]
    for worker in victims:
        worker.send_signal(signal.SIGKILL)
    gone = {worker.pid for worker in victims}
    whole = await until(lambda: len({w.pid for w in server.workers()} - gone) == before)
    await serves_again(load)
    await steady()
    await load.leave()
    not_back = whole is None and "the workers did not come back"
    return judged(seen(server, load, at, batches(server, count)), not_back, own={"workers_again_s": whole})


async def java_killed(servers: Servers) -> Outcome:
    """SIGKILL to the Java process: the container ends, and is restarted, as by the kubelet."""
    with servers.started() as server:
        async with loaded(server) as load:
            at = time.monotonic()
            server.java().send_signal(signal.SIGKILL)
            ended = await until(lambda: server.ended() is not None)
            status = server.ended()
            orphans = await until(lambda: not server.processes(), RECOVERY_S if server.kind == OURS else 5)
            server.group.__exit__(None, None, None)
            with servers.started(server.ports) as again:
                await serves_again(load)
                await steady()
                await load.leave()
                after = seen(again, load, at, in_flight=CLIENTS)
    not_noticed = ended is None and "the container did not end"
    as_if_fine = status == 0 and "the container ended with status 0"
    own = {"noticed_s": ended, "exit_status": status, "workers_gone_s": orphans}
    return judged(after, not_noticed or as_if_fine, own=own)


async def envoy_killed(servers: Servers) -> Outcome:
    """SIGKILL to the front door: it is restarted, and TorchServe keeps its model. Clients that retry get an answer."""
    with servers.started() as server:
        async with loaded(server) as load:
            at = time.monotonic()
            before = {process.pid for process in (server.java(), *server.workers())}
            server.envoy().send_signal(signal.SIGKILL)
            again = await until(server.has_envoy, DOOR_AGAIN_S)
            await serves_again(load)
            await steady()
            await load.leave()
            kept = {process.pid for process in (server.java(), *server.workers())} == before
            not_back = again is None and f"the front door was not back within {DOOR_AGAIN_S} s"
            # Each client has one request under way; if it retries, it gets an answer.
            after = seen(server, load, at, in_flight=CLIENTS)
            return judged(after, not_back, not kept and "TorchServe was replaced too", own={"door_again_s": again})


async def terminated(servers: Servers) -> Outcome:
    """SIGTERM, and half a second later the clients leave, each after its answer: as in a rolling update."""
    with servers.started() as server:
        async with loaded(server) as load:
            at = time.monotonic()
            ended = await ended_with_its_clients(server, load)
            after = seen(server, load, at, in_flight=0, serves=False)
            return judged(after, ended is None and "the server did not end", own={"ended_s": ended})


async def preempted(servers: Servers) -> Outcome:
    """SIGTERM, and SIGKILL to everything after 15 s, as on a spot node; for 8 s, new connections still arrive."""
    with servers.started(variables=SHORT_SHUTDOWN) as server:
        async with loaded(server) as load:
            at = time.monotonic()
            server.leader().terminate()
            ending = asyncio.create_task(container_ended(server, NOTICE_S))
            await asyncio.sleep(FORGOTTEN_S)
            await load.leave()
            ended = await ending
            # Killed or not makes no difference once the clients have gone.
            return judged(seen(server, load, at, in_flight=0, serves=False), own={"ended_s": ended})


async def ended_with_its_clients(server: Server, load: Load) -> float | None:
    """Tells the server to end, and the clients soon after → the seconds that it took; None if it did not end."""
    server.leader().terminate()
    ending = asyncio.create_task(container_ended(server))
    await asyncio.sleep(0.5)
    await load.leave()
    return await ending


async def container_ended(server: Server, within_s: float = RECOVERY_S) -> float | None:
    """Waits for its first process to end, then kills everything that still runs in it; also after the time is up."""
    ended = await until(lambda: server.ended() is not None, within_s)
    for process in server.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return ended
