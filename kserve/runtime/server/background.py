"""Threads that go on beside the main one, and end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_background(work: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
