"""A comparison in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Column, Table
from rich.text import Text

from pipeline.serving.comparison import Comparison, First, percent
from pipeline.shared.text import one_line, printable

SHOWN = 10  # pictures that differ; --json has all


def tables(comparison: Comparison, a: str, b: str) -> list[Table]:
    """a, b: the names of the two. The last table lists the pictures whose first classes differ, if any do."""
    return [_each(comparison, a, b), _both(comparison), *([_differing(comparison)] if comparison.differing else [])]


def _each(comparison: Comparison, a: str, b: str) -> Table:
    names = [Column(Text(printable(name)), overflow="fold") for name in (a, b)]
    table = Table("", *names, box=box.SIMPLE_HEAD, pad_edge=False)
    latencies = comparison.latencies
    table.add_row("errors", *map(str, comparison.errors))
    table.add_row("latency, median", *(_ms(found.median if found else None) for found in latencies))
    table.add_row("latency, p99", *(_ms(found.p99 if found else None) for found in latencies))
    return table


def _both(comparison: Comparison) -> Table:
    table = Table("A and B", "", box=box.SIMPLE_HEAD, pad_edge=False)
    count = f"{comparison.agreed} of {len(comparison.compared)} pictures"
    table.add_row("the same first class", f"{percent(comparison.agreement)}, {count}")
    if (most := comparison.most_moved) and comparison.mean_movement is not None:
        table.add_row("movement, mean", f"{comparison.mean_movement:.4f}")
        where = Text(f"{most.movement:.4f}, {printable(one_line(most.picture))}", overflow="fold")
        table.add_row("movement, largest", where)
    return table


def _differing(comparison: Comparison) -> Table:
    table = Table("different first class", "A", "B", box=box.SIMPLE_HEAD, pad_edge=False)
    for found in comparison.differing[:SHOWN]:
        name = Text(printable(one_line(found.picture)), overflow="fold")
        table.add_row(name, _class(found.a.first), _class(found.b.first))
    if (left := len(comparison.differing) - SHOWN) > 0:
        table.add_row(f"and {left} more", "", "")
    return table


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.1f} ms"


def _class(first: First | None) -> Text:
    if first is None:
        return Text("no answer")
    index = "" if first.index is None else f" ({first.index})"
    return Text(f"{printable(one_line(first.label))}{index} {first.probability:.1%}", overflow="fold")
