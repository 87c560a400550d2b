"""Clients in a closed loop, with connections that they keep as long as answers allow; they check every answer."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.route import predict_route

ROUTE = predict_route(MODEL_NAME)
PHOTOGRAPHS = sorted((Path(__file__).resolve().parents[1] / "docs" / "photographs").glob("*.jpg"))
PATIENCE_S = 40  # after this long without an answer, a request counts as hanging
PAUSE_S = 0.1
TOLERANCE = 0.02  # of a probability: stock TorchServe's answers depend on the size of their batch, but by less

ANSWERED, WRONG, BROKEN, HANGING, REFUSED = "200", "wrong answer", "broken off", "no answer", "connection refused"
LOST = "503, its batch was lost"  # answered, but lost: the front door's answer for TorchServe's 500 and 507


@dataclass(frozen=True)
class Reply:
    """The result of one request. sent, ended: time.monotonic(). outcome: a status, or one of the phrases above."""

    sent: float
    ended: float
    outcome: str
    body: bytes = b""
    headers: str = ""


@dataclass
class Load:
    """clients: how many ask at the same time. refused_pause_s: a client's pause after no answer, or no 200."""

    address: tuple[str, int]
    form: str
    clients: int = 16
    refused_pause_s: float = PAUSE_S
    replies: list[Reply] = field(default_factory=list)
    expected: list[dict[str, float]] = field(default_factory=list)

    async def __aenter__(self) -> Load:
        self._leaving = asyncio.Event()
        self.requests = [http_request(body) for body in questions(self.form)]
        for request in self.requests:
            status, _, body = await alone(self.address, request)
            assert status == ANSWERED, (status, body)
            self.expected.append(probabilities(body))
        swapped = [(a, b) for a in self.expected for b in self.expected if a is not b and agree(a, b)]
        assert not swapped, f"photographs whose answers are alike: a swapped one would not be noticed: {swapped}"
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Each client stops after the answer that it is waiting for."""
        self._leaving.set()
        await asyncio.gather(*self._tasks)

    async def answered_since(self, moment: float, count: int, within_s: float) -> bool:
        """Waits until `count` requests sent after `moment` have been answered."""
        deadline = time.monotonic() + within_s
        seen = answered = 0
        while time.monotonic() < deadline:
            answered += sum(r.outcome == ANSWERED and r.sent > moment for r in self.replies[seen:])
            seen = len(self.replies)
            if answered >= count:
                return True
            await asyncio.sleep(0.02)
        return False

    def outcomes(self, since: float = 0) -> Counter[str]:
        return Counter(reply.outcome for reply in self.replies if reply.ended >= since)

    async def _ask(self, number: int) -> None:
        connection: Connection | None = None
        while not self._leaving.is_set():
            which = number % len(self.requests)
            number += 1
            sent = time.monotonic()
            body, headers, outcome = b"", "", REFUSED
            try:
                connection = connection or await connected(self.address)
                sent, outcome = time.monotonic(), BROKEN
                async with asyncio.timeout(PATIENCE_S):
                    outcome, headers, body = await connection.ask(self.requests[which])
                if outcome == "503" and b"was lost" in body:
                    outcome = LOST
                if outcome == ANSWERED and not agree(probabilities(body), self.expected[which]):
                    outcome = WRONG
            except TimeoutError:
                outcome = HANGING
            except (OSError, EOFError, ValueError):
                pass
            self.replies.append(Reply(sent, time.monotonic(), outcome, body[:300], headers))
            if connection and (outcome != ANSWERED or "\r\nconnection: close\r\n" in headers.lower()):
                connection.close()
                connection = None
            if outcome != ANSWERED:
                await asyncio.sleep(self.refused_pause_s)
        if connection:
            connection.close()


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> tuple[str, str, bytes]:
        """The status, the head and the body of the answer; raises OSError, EOFError or ValueError without one."""
        self.writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        return lines[0].split()[1], head, await self._reader.readexactly(int(headers.get("content-length", 0)))

    def close(self) -> None:
        self.writer.transport.abort()


async def connected(address: tuple[str, int]) -> Connection:
    return Connection(*await asyncio.open_connection(*address))


async def alone(address: tuple[str, int], request: bytes) -> tuple[str, str, bytes]:
    connection = await connected(address)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await connection.ask(request)
    finally:
        connection.close()


@cache
def questions(form: str) -> tuple[bytes, ...]:
    """A body for each photograph, scaled down so that the load is on the server."""
    bodies = []
    for photograph in PHOTOGRAPHS:
        with Image.open(photograph) as image:
            image.thumbnail((300, 300))
            file = io.BytesIO()
            image.convert("RGB").save(file, "JPEG")
        bodies.append(json.dumps({"instances": [{form: base64.b64encode(file.getvalue()).decode()}]}).encode())
    return tuple(bodies)


def http_request(body: bytes) -> bytes:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def probabilities(body: bytes) -> dict[str, float]:
    """An answer to one image, in this project's form or in stock TorchServe's."""
    (prediction,) = json.loads(body)["predictions"]
    if "classes" in prediction:
        return {entry["label"]: entry["probability"] for entry in prediction["classes"]}
    return dict(prediction)


def agree(answer: dict[str, float], expected: dict[str, float]) -> bool:
    """Whether the classes in both have the same probability, and include the most probable one."""
    return max(expected, key=expected.__getitem__) in answer and all(
        abs(answer[label] - expected[label]) < TOLERANCE for label in answer.keys() & expected.keys()
    )
