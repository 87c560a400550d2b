"""Where the time of a batch goes: told with each answer, for the front door's metrics and traces."""

from __future__ import annotations

import re
import time

HEADER = "x-stages"
MOMENT = re.compile(r"t=[0-9]{1,11}\.[0-9]{1,6}")


class Stages:
    """Of one call of the handler: `end` is called at the end of each stage."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._began = time.time()  # seconds since the epoch, as the door's clock
        self._latest = time.perf_counter()
        self._spent: list[str] = []

    def end(self, stage: str) -> None:
        """decode (parsing, fetching, decoding) or forward (the network, and ranking), since the end of the last one."""
        now = time.perf_counter()
        self._spent.append(f"{stage}={(now - self._latest) * 1000:.1f}")
        self._latest = now

    def header(self, start: object) -> str:
        """`batch=3 queue=12.1 decode=4.0 forward=8.2`: requests, and ms.

        start: the request's x-request-start, `t=1700000000.123456`; where there is none, it has not waited.
        """
        return " ".join([f"batch={self._requests}", f"queue={self.waited_s(start) * 1000:.1f}", *self._spent])

    def waited_s(self, start: object) -> float:
        """How many seconds a request has waited for this call. start: as above."""
        if isinstance(start, str) and MOMENT.fullmatch(start):
            return max(0.0, self._began - float(start[2:]))
        return 0.0
