"""Waiting for a server that is starting."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.02  # between two requests


def became_ready(is_ready: Callable[[], bool], seconds: float, poll_s: float = POLL_S) -> bool:
    """Polls until it is ready, for at most this long. Asking the model right afterwards shows whether that was true."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True
