"""Clients that vanish, that send nothing, or that are too many."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from reliability.clients import ANSWERED, ROUTE, Load, connected
from reliability.faults.load import CLIENTS, RECOVERY_S, loaded, serves_again, steady, until
from reliability.faults.outcome import BUSY, QUEUE, Figures, Outcome, Seen, batches, judged, seen
from reliability.servers import OURS, Servers

VANISHING_S = 3
ROOM = 3  # times the time for a full queue: the limit for the slowest accepted requests
GOOD_WITHIN_S = 3  # at the same time as slow ones
OVERLOADED = 5  # times the capacity must at least be requested


async def clients_vanish(servers: Servers) -> Outcome:
    """For some seconds, clients send half a request or a complete one, and then reset the connection."""
    with servers.started() as server:
        async with loaded(server) as load:
            at, vanished = time.monotonic(), 0
            while time.monotonic() - at < VANISHING_S:
                for number, request in enumerate(load.requests):
                    connection = await connected(server.address)
                    connection.writer.write(request if number % 2 else request[: len(request) // 2])
                    await asyncio.sleep(0.01)
                    reset(connection.writer)
                    vanished += 1
            await steady()
            await load.leave()
            return judged(seen(server, load, at, in_flight=0), own={"vanished": vanished})


def reset(writer: asyncio.StreamWriter) -> None:
    """RST rather than FIN."""
    opened: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):  # the server has closed it already
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def idle_connections(servers: Servers, count: int = 1000) -> Outcome:
    """Connections that send nothing, half a head, or half a body, and stay open."""
    with servers.started() as server:
        java = server.java()
        async with loaded(server) as load:
            at, before = time.monotonic(), java.num_fds()
            kinds = (b"", f"POST {ROUTE} HTTP/1.1\r\nHost: ".encode(), load.requests[0][:2000])
            idle = []
            for number in range(count):
                idle.append(await connected(server.address))
                idle[-1].writer.write(kinds[number % len(kinds)])
            await serves_again(load)
            await steady()
            held = java.num_fds() - before
            for connection in idle:
                connection.close()
            freed = await until(lambda: java.num_fds() <= before + CLIENTS, 10)
            await load.leave()
            stay_open = freed is None and "descriptors of closed connections stay open"
            own: Figures = {"idle": count, "descriptors": held, "descriptors_free_again_s": freed}
            return judged(seen(server, load, at, in_flight=0), stay_open, own=own)


SLOW = 200
# The length that a slow upload claims: the largest accepted one, none at all, and a small one.
SLOW_LENGTHS = {
    "Content-Length: 16777216": b"x" * 1000,
    "Transfer-Encoding: chunked": b"100\r\n" + b"x" * 256 + b"\r\n",
}
SLOW_LENGTHS["Content-Length: 100000"] = b"x" * 1000
TRICKLE_S = 0.5


async def slow_uploads(servers: Servers) -> Outcome:
    """Two hundred clients send their pictures bit by bit, in every way; others ask as usual."""
    with servers.started(variables={"REQUEST_TIMEOUT_S": "15"}) as server:
        async with loaded(server, clients=4) as load:
            at = time.monotonic()
            await slow_uploads_at_once(server.address, seconds=20)
            await load.answered_since(time.monotonic(), 4, RECOVERY_S)
            await load.leave()
            after = seen(server, load, at, in_flight=0)
            slowest = after.latency_max_s or 0
            late = slowest > GOOD_WITHIN_S and f"an answer took {slowest:.1f} s"
            refused = after.outcomes.get(BUSY) and "good requests were refused"
            return judged(after, late, refused, own={"slow": SLOW})


async def slow_uploads_at_once(address: tuple[str, int], seconds: float) -> None:
    """Trickles data over SLOW connections, for this long; clients that are cut off reconnect."""

    async def slow(number: int) -> None:
        length, piece = list(SLOW_LENGTHS.items())[number % len(SLOW_LENGTHS)]
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n{length}\r\n\r\n".encode()
        while True:
            with suppress(OSError):
                connection = await connected(address)
                try:
                    connection.writer.write(head)
                    while not connection.writer.is_closing():
                        connection.writer.write(piece)
                        await connection.writer.drain()
                        await asyncio.sleep(TRICKLE_S)
                finally:
                    connection.close()
            await asyncio.sleep(TRICKLE_S)

    tasks = [asyncio.create_task(slow(number)) for number in range(SLOW)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Rates:
    """Requests per second."""

    capacity: float
    offered: float
    answered: float


async def overload(servers: Servers, clients: int = 1000, seconds: float = 10) -> Outcome:
    """First the capacity, with enough clients to keep the server busy; then many more than its queue holds.

    The pause after a refusal is set for ten times the capacity. The clients reach about seven times: a thousand of them
    in one Python process, on the server's own processors, can do no more. `offered` is what they actually sent.
    """
    with servers.started() as server:
        async with loaded(server, clients=64) as few:
            began = time.monotonic()
            await asyncio.sleep(5)
            capacity = few.outcomes(began)[ANSWERED] / (time.monotonic() - began)
        pause = clients / (10 * capacity)  # after a refusal: limits the requests to ten times the capacity
        async with Load(server.address, server.form, clients, refused_pause_s=pause) as many:
            at = time.monotonic()
            await asyncio.sleep(seconds)
            took = time.monotonic() - at
            offered = sum(reply.sent < at + seconds for reply in many.replies) + clients
            rates = Rates(capacity, offered / took, many.outcomes()[ANSWERED] / took)
            refused = sorted(reply.ended - reply.sent for reply in many.replies if reply.outcome == BUSY)
            await many.leave()
        after = seen(server, many, at, in_flight=0)
        held = QUEUE + batches(server, len(server.workers()))
        own: Figures = {f"{name}_per_s": rate for name, rate in vars(rates).items()}
        own["refused_p50_s"] = refused[len(refused) // 2] if refused else None
        own["retry_after"] = any("retry-after" in r.headers.lower() for r in many.replies if r.outcome == BUSY)
        return judged(after, *(overload_faults(after, rates, held) if server.kind == OURS else ()), own=own)


def overload_faults(seen: Seen, rates: Rates, held: int) -> list[str]:
    """held: how many requests the queue and the workers hold, by the configuration. More are refused."""
    failed = []
    if not seen.outcomes.get(BUSY):
        failed.append("nothing was refused")
    if rates.offered < OVERLOADED * rates.capacity:
        failed.append(f"the clients requested less than {OVERLOADED} times the capacity")
    longest = ROOM * held / rates.answered if rates.answered else 0
    if seen.latency_p99_s is not None and seen.latency_p99_s > longest:
        failed.append(f"accepted requests took longer than {longest:.1f} s (p99)")
    return failed
