"""An end for work that has none of its own: time-outs of sockets are for the next byte, not for the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def within(seconds: float, work: Callable[[], Value]) -> Value:
    """What `work` returns or raises; TimeoutError where it takes longer. It then goes on in a thread that nobody waits
    for, and that ends with the process."""
    outcome: Future[Value] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)
