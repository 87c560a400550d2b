"""`python -m pipeline COMMAND …`: dispatch, signals, and errors as one line each."""

from __future__ import annotations

import errno
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from pipeline.shared.errors import PipelineError, told
from pipeline.shared.signals import on_stopping, terminate
from pipeline.shared.terminal import complain

WIDEST_HELP = 100  # characters: longer lines are hard to read
HINTS = {errno.ENOSPC: "free some space and run this again", errno.EACCES: "choose a place that you may write to"}


class Command(TyperCommand):
    """Its --help has each option on a line of its own, so that it reads well in a terminal of any width."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        records = [record for parameter in self.get_params(ctx) if (record := parameter.get_help_record(ctx))]
        with formatter.section("Arguments and options"):
            for usage, meaning in records:
                shown = re.sub(r" <[^<>]*>$", "", usage)  # the name of a type in Python
                formatter.write(f"  {shown}\n{_paragraph(meaning, formatter.width)}\n")


def _paragraph(text: str, width: int) -> str:
    """Indented. A path or a URL stays in one piece, however long it is."""
    return textwrap.fill(
        text, width, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def main(name: str, arguments: list[str]) -> None:
    """Runs the command in pipeline/commands/NAME.py, and exits as `run` does. The others are not even imported."""
    on_stopping(terminate)
    with _one_line():  # models/alexnet.yaml is read when its module is imported
        command = getattr(import_module(f"pipeline.commands.{name}"), name)
    run(command, arguments)


def run(command: Callable[..., Any], arguments: list[str]) -> None:
    """Runs one command, and exits: 0, 1 for an error, 2 for wrong usage, 128 + the signal that stopped it."""
    on_stopping(terminate)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    width = min(shutil.get_terminal_size().columns, WIDEST_HELP)
    app.command(cls=Command, context_settings={"terminal_width": width})(command)
    with _one_line():
        app(arguments, prog_name=f"scripts/{command.__name__}.sh")


@contextmanager
def _one_line() -> Iterator[None]:
    """An error from within ends the process with exit status 1, and a line."""
    try:
        yield
    except PipelineError as error:
        _fail(error)
    except OSError as error:
        hint = f": {HINTS[error.errno]}" if error.errno in HINTS else ""
        _fail(f"{told(error)}{hint}")


def _fail(sentence: object) -> None:
    complain(sentence)
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
