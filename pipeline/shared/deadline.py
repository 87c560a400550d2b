"""A deadline for work that has none: a socket's time-out limits the wait for the next byte, not for the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def within(seconds: float, work: Callable[[], Value]) -> Value:
    """Returns or raises what `work` does; raises TimeoutError if it takes longer. The work then continues in a thread
    that nobody waits for and that ends with the process."""
    outcome: Future[Value] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)
