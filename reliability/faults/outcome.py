"""The outcome of one fault: what the clients saw afterwards, and which of it was wrong."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ts.model_server import load_properties

from reliability.clients import ANSWERED, HANGING, REFUSED, WRONG, Load
from reliability.servers import CHECKOUT, OURS, Server

BUSY = "503"  # a full queue
QUEUE = int(load_properties(str(CHECKOUT / "config.properties"))["job_queue_size"])
SERVE_AGAIN_S = 5  # the target, beyond the model's load time
BATCH = {OURS: 16}  # a worker's largest batch: handler/model-config.yaml; the stock envelope takes one
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Seen:
    """Times are in seconds; None if nothing was answered.

    in_flight: requests that the fault may lose. serves: whether a time without an answer counts.
    """

    start_s: float
    outcomes: dict[str, int]
    lost: int
    in_flight: int
    serves: bool
    outage_s: float | None
    latency_p50_s: float | None
    latency_p99_s: float | None
    latency_max_s: float | None
    bodies: dict[str, str]

    @property
    def lost_beyond(self) -> int:
        return max(0, self.lost - self.in_flight)


@dataclass(frozen=True)
class Outcome:
    """failed: what should not have happened. own: figures of only this fault. skipped: why it cannot be tried."""

    failed: list[str]
    seen: Seen | None = None
    own: Figures = field(default_factory=dict)
    skipped: str = ""
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))
    processors: int = field(default_factory=lambda: os.cpu_count() or 1)
    took_s: float = 0

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Outcome:
        """From the dictionary that `asdict` made."""
        return cls(**stored | {"seen": stored["seen"] and Seen(**stored["seen"])})


def batches(server: Server, workers: int) -> int:
    """The largest number of requests that this many workers hold."""
    return workers * BATCH.get(server.kind, 1)


def seen(server: Server, load: Load, at: float, in_flight: int, serves: bool = True) -> Seen:
    """What the clients saw since the fault at `at`."""
    after = sorted((reply for reply in load.replies if reply.ended >= at), key=lambda reply: reply.ended)
    answered = [reply for reply in after if reply.outcome == ANSWERED]
    lost = [reply for reply in after if reply.outcome not in (ANSWERED, BUSY, REFUSED)]
    gaps = [later - earlier for earlier, later in pairwise([at, *(reply.ended for reply in answered)])]
    latencies = sorted(reply.ended - reply.sent for reply in answered)
    return Seen(
        start_s=server.start_s,
        outcomes=dict(load.outcomes(at)),
        lost=len(lost),
        in_flight=in_flight,
        serves=serves,
        outage_s=max(gaps, default=None) if serves else None,
        latency_p50_s=latencies[len(latencies) // 2] if latencies else None,
        latency_p99_s=latencies[int(len(latencies) * 0.99)] if latencies else None,
        latency_max_s=latencies[-1] if latencies else None,
        bodies={reply.outcome: reply.body.decode(errors="replace") for reply in after if reply.outcome != ANSWERED},
    )


def judged(seen: Seen, *otherwise: object, own: Figures | None = None) -> Outcome:
    """No hang and no wrong answer; only requests in flight are lost; and if it serves, it recovers soon.

    otherwise: what else should not have happened, or a false value.
    """
    failed = [str(fault) for fault in otherwise if fault]
    failed += [f"{seen.outcomes[kind]} × {kind}" for kind in (HANGING, WRONG) if seen.outcomes.get(kind)]
    if seen.lost_beyond:
        failed.append(f"{seen.lost_beyond} requests lost beyond what was in flight")
    if seen.outage_s is None:
        failed += ["nothing was answered afterwards"] if seen.serves else []
    elif seen.outage_s > seen.start_s + SERVE_AGAIN_S:
        failed.append(f"no answer for {seen.outage_s:.1f} s")
    return Outcome(failed, seen, own or {})
