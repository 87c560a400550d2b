"""How long a deployment waits, and how often it looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """In seconds.

    `node`: so much of the time in which a version waits for a node that is being made does not count towards `timeout`:
    after 15 minutes the autoscaler itself gives up on a node (its --max-node-provision-time). `patience`: how long to
    see a failure that may mend, before it is believed. `answer`: to the smoke test's question: to connect to the API
    server, and for its proxy, which tries 30 s, and the model.
    """

    timeout: float = 600
    node: float = 900
    poll: float = 1
    patience: float = 60
    smoke: float = 30
    answer: tuple[float, float] = (5, 70)

    @property
    def longest(self) -> float:
        """That a version may take, with its nodes, until it is ready or has failed."""
        return self.timeout + self.node
