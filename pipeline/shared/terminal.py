"""Output of the commands: results on stdout; progress, notes and errors on stderr, without progress if it is no
terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.status import Status
from rich.text import Text

from pipeline.shared.errors import ServerFailed
from pipeline.shared.progress import Progress as ByteProgress
from pipeline.shared.text import printable

WIDE = 72  # characters: room for a whole progress bar


class PlainConsole(Console):
    """Prints text as it is: brackets and escape sequences in file names, labels and log lines do nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)

# Spinners and progress bars, the innermost last: only that one is shown.
_moving: list[Status | Progress] = []
_changing = threading.Lock()  # transfers report their progress from their own threads


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner next to a text, which can be updated. It hides the spinner or bar that was shown before."""
    status = Status(Text(printable(what)), console=err)

    def say(new: str) -> None:
        status.update(Text(printable(new)))

    with _alone(status) as show:
        show()
        yield say


@contextmanager
def transfer_bar(what: str) -> Iterator[ByteProgress]:
    """A progress bar for bytes. It appears with the first of them, and hides a spinner."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), DownloadColumn()]
    if err.width >= WIDE:
        columns = [columns[0], BarColumn(), columns[1], TransferSpeedColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task = bar.add_task(what, total=None)

    with _alone(bar) as show:

        def advance(so_far: int, total: int) -> None:
            show()
            bar.update(task, completed=so_far, total=total or None)

        yield advance


@contextmanager
def _alone(moving: Status | Progress) -> Iterator[Callable[[], None]]:
    """Calling the yielded function shows `moving` and hides what was shown before, until the context ends."""

    def show() -> None:
        with _changing:
            if moving not in _moving:
                if _moving:
                    _moving[-1].stop()
                _moving.append(moving)
                moving.start()

    try:
        yield show
    finally:
        with _changing:
            if moving in _moving:
                moving.stop()
                _moving.remove(moving)
                if _moving:
                    _moving[-1].start()


def warn(sentence: str) -> None:
    err.print(sentence, style="yellow")


def complain(error: object) -> None:
    """One line, and the lines of a server's log if the error has some."""
    for line in f"error: {error}".split("\n") if isinstance(error, ServerFailed) else [f"error: {error}"]:
        err.print(line, style="red")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
