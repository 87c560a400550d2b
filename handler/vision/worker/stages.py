"""Where the time of a batch goes; sent with each answer, for the front door's metrics and traces."""

from __future__ import annotations

import re
import time

HEADER = "x-stages"
MOMENT = re.compile(r"t=[0-9]{1,11}\.[0-9]{1,6}")


class Stages:
    """The stages of one call of the handler. Call `end` at the end of each."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._began = time.time()  # seconds since the epoch, like the front door's clock
        self._latest = time.perf_counter()
        self._spent: list[str] = []

    def end(self, stage: str) -> None:
        """stage: decode (parsing, fetching, decoding) or forward (the network and ranking)."""
        now = time.perf_counter()
        self._spent.append(f"{stage}={(now - self._latest) * 1000:.1f}")
        self._latest = now

    def header(self, start: object) -> str:
        """`batch=3 queue=12.1 decode=4.0 forward=8.2`: requests, and ms.

        start: the request's x-request-start, `t=1700000000.123456`; without one, its wait counts as 0.
        """
        return " ".join([f"batch={self._requests}", f"queue={self.waited_s(start) * 1000:.1f}", *self._spent])

    def waited_s(self, start: object) -> float:
        """How many seconds a request waited for this call. start: as above."""
        if isinstance(start, str) and MOMENT.fullmatch(start):
            return max(0.0, self._began - float(start[2:]))
        return 0.0
