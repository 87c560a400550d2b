"""Used by every fault: a steady load before it, and a wait after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from reliability.clients import Load
from reliability.servers import Server

CLIENTS = 34  # on two processors, a few more than fit into all workers' batches, so that some wait
WARM_UP_S = 2
STEADY_S = 3  # of load after the fault, in which nothing may be lost
RECOVERY_S = 60  # how long to wait for recovery


@asynccontextmanager
async def loaded(server: Server, clients: int = CLIENTS) -> AsyncIterator[Load]:
    """Clients of a server that has answered each of them."""
    async with Load(server.address, server.form, clients) as load:
        await load.answered_since(time.monotonic(), clients, RECOVERY_S)
        await asyncio.sleep(WARM_UP_S)
        yield load


async def until(condition: Callable[[], object], within_s: float = RECOVERY_S) -> float | None:
    """The seconds until it holds; None if it does not in time."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        if condition():
            return time.monotonic() - began
        await asyncio.sleep(0.05)
    return None


async def serves_again(load: Load) -> bool:
    """Waits until as many requests as there are clients, sent from now on, have been answered."""
    return await load.answered_since(time.monotonic(), CLIENTS, RECOVERY_S)


async def steady() -> None:
    """Waits for a time in which nothing may be lost."""
    await asyncio.sleep(STEADY_S)
