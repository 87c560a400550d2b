"""`python -m benchmarks.classifiers` measures what has no row, and writes docs/classifiers.md; `… page` only that."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.classifiers import page as pages
from benchmarks.classifiers import results
from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import on_stopping, terminate
from pipeline.shared.terminal import err, out

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    only: Annotated[
        str, typer.Option(metavar="NAME,…", help="These, also where they have rows already.", show_default=False)
    ] = "",
) -> None:
    """Measure each that has no row of this processor and this torch, or has failed; the quickest first."""
    if context.invoked_subcommand is not None:
        return
    from benchmarks.classifiers.architectures import all_of_them  # torchvision takes seconds
    from benchmarks.classifiers.measurement import here, measure

    known = {each.name: each for each in all_of_them()}
    names = [name for name in only.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise PipelineError(f"there is no {unknown[0]} here: there are {', '.join(known)}")
    rows, now = results.read(), here()
    measured = {name for name, row in rows.items() if row | now == row and "failed" not in row}
    chosen = names or [name for name in known if name not in measured]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=len(chosen))
        try:
            for name in chosen:
                row = measure(known[name], lambda what: progress.update(task, description=what))
                results.put({name: row})
                progress.advance(task)
                out.print(pages.line(name, row))
        finally:  # also of what was measured before Ctrl-C, or a full disk
            page()


@app.command()
def page() -> None:
    """Write docs/classifiers.md anew, from benchmarks/results/classifiers.json."""
    from pipeline.artefact import zoo

    pages.PAGE.write_text(pages.text(results.read(), zoo.names()), encoding="utf-8")


def main() -> None:
    """Exits: 0, 1 for an error, 2 for wrong usage, 128 + the signal that stopped it."""
    on_stopping(terminate)
    try:
        app(prog_name="python -m benchmarks.classifiers")
    except (PipelineError, OSError) as error:  # a full disk, for one: the rows before then are there
        err.print(f"error: {error}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
