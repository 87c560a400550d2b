"""`python -m benchmarks.classifiers` measures, and writes docs/classifiers.md; `… page` only writes it."""

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
        str, typer.Option(metavar="NAME,…", help="Measure these, even if they have rows.", show_default=False)
    ] = "",
) -> None:
    """Measure each that failed, or has no row for this processor and torch; the fastest first."""
    if context.invoked_subcommand is not None:
        return
    from benchmarks.classifiers.architectures import all_of_them  # torchvision takes seconds
    from benchmarks.classifiers.measurement import here, measure

    known = {each.name: each for each in all_of_them()}
    names = [name for name in only.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise PipelineError(f"no classifier is called {unknown[0]}: choose from {', '.join(known)}")
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
        finally:  # even after Ctrl-C, or if the disk is full
            page()


@app.command()
def page() -> None:
    """Rewrite docs/classifiers.md from benchmarks/results/classifiers.json."""
    from pipeline.artefact import zoo

    pages.PAGE.write_text(pages.text(results.read(), zoo.names()), encoding="utf-8")


def main() -> None:
    """Exits: 0, 1 for an error, 2 for wrong usage, 128 + the signal that stopped it."""
    on_stopping(terminate)
    try:
        app(prog_name="python -m benchmarks.classifiers")
    except (PipelineError, OSError) as error:  # such as a full disk: earlier rows are kept
        err.print(f"error: {error}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
