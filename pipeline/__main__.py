"""`python -m pipeline COMMAND …`: dispatch, signals, and errors as one line each."""

from __future__ import annotations

import errno
import sys

import typer

from pipeline import commands
from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import on_stopping, terminate
from pipeline.shared.terminal import err

COMMANDS = {
    command.__name__: command
    for command in (
        commands.package,
        commands.publish,
        commands.serve,
        commands.predict,
        commands.deploy,
        commands.demo,
    )
}
HINTS = {errno.ENOSPC: "free some space and run this again", errno.EACCES: "choose a place that you may write to"}


def main(arguments: list[str]) -> None:
    """Runs one command, and exits: 0, 1 for an error, 2 for wrong usage, 128 + the signal that stopped it."""
    on_stopping(terminate)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(COMMANDS[arguments[0]])
    try:
        app(arguments[1:], prog_name=f"scripts/{arguments[0]}.sh")
    except PipelineError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = f": {HINTS[error.errno]}" if error.errno in HINTS else ""
        _fail(f"{where}{error.strerror or error}{hint}")


def _fail(sentence: str) -> None:
    err.print(f"error: {sentence}", style="red")
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
