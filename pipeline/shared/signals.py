"""SIGINT, SIGTERM and SIGHUP: noted when they arrive, and obeyed when no half-done work would stay behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipeline.shared.terminal import err

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object]


class Terminated(SystemExit):
    """A signal asked the command to end; its exit status is 128 + the signal's number, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def on_stopping(handler: Handler) -> dict[int, Any]:
    """Installs a handler for each signal that is not ignored, as under nohup; returns the previous handlers."""
    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


def terminate(number: int, _: FrameType | None) -> None:
    """A handler for commands that clean up after themselves wherever they are interrupted."""
    raise Terminated(number)


def leave(number: int, _: FrameType | None) -> None:
    """A handler for commands that have nothing to clean up, and may hang on a server that does not answer."""
    err.show_cursor()  # a progress bar may have hidden it
    os._exit(128 + number)


class NotedSignals:
    """A context in which signals are only noted: otherwise, a process that is just being started could be lost."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._raises = False

    def __enter__(self) -> NotedSignals:
        self._handlers = on_stopping(self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """In here the first signal raises Terminated, even if it arrived earlier; later signals are only noted.

        So the cleanup that follows, still in the outer context, is reached and finishes.
        """
        self._raises = True
        try:
            self.obey()
            yield
        finally:
            self._raises = False

    def obey(self) -> None:
        """Raises Terminated if a signal has arrived."""
        if self._number is not None:
            raise Terminated(self._number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
        if self._raises:
            self._raises = False
            raise Terminated(number)
