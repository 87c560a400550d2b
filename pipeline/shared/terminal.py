"""How the commands speak: results on stdout; progress, notes and errors on stderr, quiet where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipeline.shared.progress import Progress as ByteProgress

# File names, labels and log lines are text, whatever brackets they have; and a line stays a line.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
err = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, stderr=True)


@contextmanager
def transfer_bar(what: str) -> Iterator[ByteProgress]:
    """A progress bar for bytes, which shows itself with the first of them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task = bar.add_task(what, total=None)

    def advance(so_far: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=so_far, total=total or None)

    try:
        yield advance
    finally:
        bar.stop()


def warn(sentence: str) -> None:
    err.print(sentence, style="yellow")


def complain(error: object) -> None:
    err.print(f"error: {error}", style="red")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
