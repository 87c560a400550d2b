"""Daemon threads, which end with the main thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_background(work: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
