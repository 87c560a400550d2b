"""Malformed requests, odd images and bombs, sent one after the other to either server while good ones continue.

Every image is sent in JSON here, which both servers accept.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from reliability.bad_requests import IMAGES, JSON_BODIES
from reliability.bombs import BOMBS
from reliability.clients import ANSWERED, BROKEN, HANGING, Load, alone, http_request
from reliability.servers import Server, Servers

BESIDE = 8  # good clients, which ask continually
REFUSALS = ("400", "403", "413")
SLOWEST_S = 2  # the limit for an answer
PLACE = re.compile(rb'\{"error": "(body|instances|parameters)')
LARGEST = 10_000_000  # bytes of an image that, in JSON, is within the limit of a body


@dataclass(frozen=True)
class Answers:
    """The answers to all the bad requests, and to the good ones at the same time."""

    date: str
    cases: int
    statuses: dict[str, int]
    refusals_without_a_place: int
    slowest_s: float
    slowest: str
    beside: int
    beside_lost: int
    workers_replaced: int

    @property
    def failed(self) -> list[str]:
        """What should not have happened."""
        unanswered = self.cases - sum(self.statuses.get(status, 0) for status in (ANSWERED, *REFUSALS))
        faults = {
            f"{unanswered} requests were neither answered nor refused": unanswered,
            f"{self.refusals_without_a_place} refusals name no place": self.refusals_without_a_place,
            f"{self.slowest} took {self.slowest_s:.1f} s": self.slowest_s > SLOWEST_S,
            f"{self.beside_lost} good requests at the same time were lost": self.beside_lost,
            f"{self.workers_replaced} workers were replaced": self.workers_replaced,
        }
        return [fault for fault, is_there in faults.items() if is_there]


def bodies(form: str) -> dict[str, bytes]:
    """Name → request body."""
    images = {name: image for name, (image, _) in IMAGES.items() if len(image) < LARGEST}
    images |= {name: bomb() for name, bomb in BOMBS.items()}
    wrapped = {name: {"instances": [{form: base64.b64encode(image).decode()}]} for name, image in images.items()}
    return {name: body for name, (body, _, _) in JSON_BODIES.items()} | {
        name: json.dumps(body).encode() for name, body in wrapped.items()
    }


def tried(servers: Servers, say: Callable[[str], None]) -> Answers:
    """Sends them to its own server."""
    with servers.started() as server:
        return asyncio.run(answers(server, say))


async def answers(server: Server, say: Callable[[str], None]) -> Answers:
    workers = {process.pid for process in server.workers()}
    statuses: Counter[str] = Counter()
    slowest, silent = (0.0, ""), 0
    async with Load(server.address, server.form, BESIDE) as load:
        for name, body in bodies(server.form).items():
            began = time.monotonic()
            outcome, answer = await asked(server, http_request(body))
            statuses[outcome] += 1
            slowest = max(slowest, (time.monotonic() - began, name))
            silent += outcome in REFUSALS and not PLACE.match(answer)
            say(f"{outcome} {time.monotonic() - began:.2f} s {name}: {answer[:100]!r}")
        await load.leave()
    beside = load.outcomes()
    return Answers(
        date=time.strftime("%Y-%m-%d"),
        cases=sum(statuses.values()),
        statuses=dict(sorted(statuses.items())),
        refusals_without_a_place=silent,
        slowest_s=slowest[0],
        slowest=slowest[1],
        beside=beside.total(),
        beside_lost=beside.total() - beside[ANSWERED],
        workers_replaced=len(workers - {process.pid for process in server.workers()}),
    )


async def asked(server: Server, request: bytes) -> tuple[str, bytes]:
    """The status, or what happened instead, and the body."""
    try:
        status, _, body = await alone(server.address, request)
    except TimeoutError:
        return HANGING, b""
    except (OSError, EOFError, ValueError):
        return BROKEN, b""
    return status, body
