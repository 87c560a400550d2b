"""How the commands speak: results on stdout; progress, notes and errors on stderr, quiet where that is no terminal."""

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

WIDE = 72  # characters: room for everything that a progress bar tells


class PlainConsole(Console):
    """File names, labels and log lines are text, whatever brackets and escape sequences they have; a line is a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)

# What moves in the terminal, the innermost last: that one alone is shown.
_moving: list[Status | Progress] = []
_changing = threading.Lock()  # transfers tell from threads of their own how far they are


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner beside what is being done, which can be said anew. It takes the place of one that is there already."""
    status = Status(Text(printable(what)), console=err)

    def say(new: str) -> None:
        status.update(Text(printable(new)))

    with _alone(status) as show:
        show()
        yield say


@contextmanager
def transfer_bar(what: str) -> Iterator[ByteProgress]:
    """A progress bar for bytes, which shows itself with the first of them, in the place of a spinner."""
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
    """While `moving` is shown, which the function begins, what was shown before is not; then it is again."""

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
    """A line; and those of a server's log, where the error shows some."""
    for line in f"error: {error}".split("\n") if isinstance(error, ServerFailed) else [f"error: {error}"]:
        err.print(line, style="red")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
