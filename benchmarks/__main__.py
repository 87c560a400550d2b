"""`python -m benchmarks` measures, and writes results/PROCESSOR/ and the pages; `… charts` only redraws them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import charts as pictures_of_results
from benchmarks import door as front_door
from benchmarks import door_figures, figures, pages, processors, records, simulated, tables
from benchmarks import open_loop as open_loops
from benchmarks import profile as profiling
from benchmarks import protocols as ways_to_ask
from benchmarks.contenders import CONTENDERS, THIS, WITH_INT8
from benchmarks.measurement import Measurement
from benchmarks.places import CHECKOUT
from benchmarks.records import Records
from benchmarks.weights import prepare
from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import on_stopping, terminate
from pipeline.shared.terminal import err, out

KEPT = (
    "date",
    "seconds",
    "machine",
    "front_door",
    "weights",
    "images",
    "load_s",
    "warm_up_s",
)  # of the measurements, in the summary
OF_A_SHELL = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
NAMES = [contender.name for contender in CONTENDERS]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    peer: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Only these: {', '.join(NAMES)}.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure everything, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each load, after its warm-up.")] = 3,
) -> None:
    """Measure this project against its peers and the limit of the machine."""
    if context.invoked_subcommand is not None:
        return
    _check_names(peer)
    chosen = [contender for contender in CONTENDERS if not peer or contender.name in peer]
    with _progress() as (progress, task, say):
        prepared = prepare(say, int8=WITH_INT8 in chosen)
        measurement = Measurement(chosen, prepared, seconds, say, lambda: progress.advance(task))
        progress.update(task, total=measurement.steps(rounds))
        measured = measurement.rounds(rounds)
    mine = records.here()
    mine.write(records.MEASUREMENTS, measured)
    _summarise(mine, measured)
    pages.write()


@app.command()
def profile() -> None:
    """Where a request's processor time goes, with 32 clients: profile.json and the processor's page."""
    with err.status("profiling"):
        found = profiling.profile(prepare(lambda _: None))
    found["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    _keep(records.PROFILE, found)
    for what, spent in found["ms_per_request"].items():
        out.print(f"{spent:6.2f} ms  {what}", highlight=False)


@app.command()
def door(
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure with and without the door.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load, after its warm-up.")] = 8,
) -> None:
    """What the front door costs, and what it does under overload: door.json and the processor's page."""
    with _progress() as (progress, task, say):
        prepared = prepare(say, stock=False)
        progress.update(task, total=rounds)
        measured = front_door.measure(prepared, rounds, seconds, say, lambda: progress.advance(task))
    found = {**measured, **door_figures.summary(measured), "round_count": rounds}
    _keep(records.DOOR, found)
    out.print(f"{found['machine']['processor']}, {found['machine']['cores']} cores", highlight=False)
    out.print(tables.door_table(found["figures"]))
    _show_targets(found["goals"])


@app.command()
def protocols(
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure each form.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load, after its warm-up.")] = 8,
) -> None:
    """What v1 and v2 cost, in JSON and in raw bytes: protocols.json and the page."""
    with _progress() as (progress, task, say):
        prepared = prepare(say, stock=False)
        progress.update(task, total=rounds)
        found = ways_to_ask.measure(prepared, rounds, seconds, say, lambda: progress.advance(task))
    _keep(records.PROTOCOLS, found)
    for part in found["kinds"].values():
        _show_targets(part["goals"])


@app.command("open")
def open_loop(
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure these peers too.", show_default=False),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure each rate.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load, after its warm-up.")] = 8,
    even: Annotated[bool, typer.Option("--even", help="Send requests at even intervals, not at random.")] = False,
) -> None:
    """Latency at rates that do not wait for answers: open.json, open.png and the processor's page."""
    _check_names(peer)
    chosen = [THIS, *(each for each in CONTENDERS if each.name in (peer or []))]
    with _progress() as (progress, task, say):
        prepared = prepare(say, stock=any(each.is_peer for each in chosen), int8=WITH_INT8 in chosen)
        progress.update(task, total=rounds * len(chosen))
        found = open_loops.measure(chosen, prepared, rounds, seconds, even, say, lambda: progress.advance(task))
    _draw(records.here(), pictures_of_results.draw_open, found)
    _keep(records.OPEN, found)


@app.command()
def isa(
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure everything.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for each batch size.")] = 1,
) -> None:
    """Forward passes with fewer instructions, as on other processors: isa.json and the page."""
    with _progress() as (progress, task, say):
        prepared = prepare(say, stock=False, int8=True)
        progress.update(task, total=simulated.steps(rounds))
        found = simulated.measure(prepared, rounds, seconds, say, lambda: progress.advance(task))
    _keep(records.ISA, found)
    _show_targets(found["goals"])


@app.command()
def charts() -> None:
    """Recompute the figures, charts and pages of every processor in results/."""
    for each in records.every():
        if measured := each.read(records.MEASUREMENTS):
            _summarise(each, measured)
        if found := each.read(records.OPEN):
            _draw(each, pictures_of_results.draw_open, found)
    pages.write()


@contextmanager
def _progress() -> Iterator[tuple[Progress, TaskID, Callable[[str], None]]]:
    """A bar, its task, and a function that shows what is being done; without a terminal it prints lines."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("preparing", total=None)

        def say(what: str) -> None:
            progress.update(task, description=what)
            if not err.is_terminal:
                err.print(what)

        yield progress, task, say


def _summarise(of: Records, measured: dict[str, Any]) -> None:
    """Figures and charts of one processor."""
    summary = figures.summary(measured) | {key: measured[key] for key in KEPT}
    summary["round_count"] = len(measured["rounds"])
    of.write(records.SUMMARY, summary)
    _draw(of, pictures_of_results.draw, summary)
    out.print(processors.named(summary["machine"]), highlight=False)
    _show_targets(summary["targets"])
    out.print(f"{of.folder.relative_to(CHECKOUT)}/ has the figures and the charts")


def _draw(of: Records, draw: Callable[[dict[str, Any], Path], dict[str, Path]], found: dict[str, Any]) -> None:
    of.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for chart in draw(found, Path(scratch)).values():
            shutil.copy(chart, of.folder / f".{chart.name}")
            os.replace(of.folder / f".{chart.name}", of.folder / chart.name)


def _check_names(peers: list[str] | None) -> None:
    unknown = [name for name in peers or [] if name not in NAMES]
    if unknown:
        raise PipelineError(f"no peer is called {unknown[0]}: choose from {', '.join(NAMES)}")


def _keep(name: str, found: dict[str, Any]) -> None:
    """Stores a record of this machine's processor."""
    mine = records.here()
    mine.write(name, found)
    pages.write()
    out.print(f"{(mine.folder / name).relative_to(CHECKOUT)} has all the details")


def _show_targets(targets: list[dict[str, Any]]) -> None:
    table = Table("", "measured", "target", "")
    for target in targets:
        colour = {True: "green", False: "red", None: "yellow"}[target["met"]]
        verdict = tables.verdict(target)
        table.add_row(target["what"], tables.spread(target["figure"], 2), tables.bound(target), verdict, style=colour)
    out.print(table)


def main() -> None:
    """Exits: 0, 1 for an error, 2 for wrong usage, 128 + the signal that stopped it."""
    on_stopping(terminate)
    for name in OF_A_SHELL:  # otherwise, defaults would not be measured as defaults
        os.environ.pop(name, None)
    try:
        app(prog_name="python -m benchmarks")
    except PipelineError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
