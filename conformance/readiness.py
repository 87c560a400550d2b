"""Waiting for a server that is starting."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.02  # between two questions


def became_ready(is_ready: Callable[[], bool], seconds: float, poll_s: float = POLL_S) -> bool:
    """Asks until it is ready, for so long. Whoever then asks the model at once sees whether that was true."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True
