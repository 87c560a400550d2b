"""How long a deployment waits, and how often it looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """In seconds.

    `node`: the most that waiting for a new node adds to `timeout`: after 15 minutes the autoscaler itself gives up on a
    node (its --max-node-provision-time). `patience`: how long a failure that may be temporary has to last before it
    counts. `answer`: for the smoke test's question: to connect to the API server, and for its proxy, which tries for
    30 s, and the model.
    """

    timeout: float = 600
    node: float = 900
    poll: float = 1
    patience: float = 60
    smoke: float = 30
    answer: tuple[float, float] = (5, 70)

    @property
    def longest(self) -> float:
        """The longest that a version may take, with its nodes, until it is ready or has failed."""
        return self.timeout + self.node
