"""SIGINT, SIGTERM and SIGHUP where half-done work would stay behind: noted when they come, obeyed when it is safe."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(SystemExit):
    """A signal asked the command to end; its exit status is 128 + the signal's number, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def terminate(number: int, _: FrameType | None) -> None:
    """A handler for commands that clean up behind themselves wherever they are interrupted."""
    raise Terminated(number)


class NotedSignals:
    """A context in which the signals are only noted: a process that is just being started could be lost otherwise."""

    def __init__(self) -> None:
        self._number: int | None = None

    def __enter__(self) -> NotedSignals:
        self._handlers = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Raises Terminated if a signal has come."""
        if self._number is not None:
            raise Terminated(self._number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
