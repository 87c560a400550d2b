"""The results, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conformance.checking import Outcome, Result

STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.ADVISED: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}


@dataclass(frozen=True)
class Part:
    """A server's results in one protocol. about: how it was asked, or why it was not."""

    protocol: str
    about: str
    results: Sequence[Result]


def show(parts: Sequence[Part], console: Console) -> None:
    for part in parts:
        table = Table(title=_shown(f"{part.protocol}: {part.about}"), title_justify="left", expand=True)
        table.add_column("outcome", no_wrap=True)
        table.add_column("check", ratio=3)
        table.add_column("why", ratio=4)
        for result in part.results:
            told = result.outcome in (Outcome.FAILED, Outcome.ADVISED)
            source = f"\n[dim][link={result.source.url}]{escape(result.source.title)}[/link][/dim]" if told else ""
            table.add_row(
                f"[{STYLES[result.outcome]}]{result.outcome.value}[/]",
                escape(result.sentence),
                f"{_shown(result.detail)}{source}",
            )
        console.print(table)
    console.print(counted([result for part in parts for result in part.results]))


def printable(text: object) -> str:
    """Text on one line that a terminal does not interpret: `\\x1b` for an escape. A `detail` quotes the server."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def _shown(text: str) -> str:
    """Neither the terminal nor the library that prints it interprets this."""
    return escape(printable(text))


def counted(results: Sequence[Result]) -> str:
    outcomes = [result.outcome for result in results]
    return ", ".join(f"{outcomes.count(outcome)} {outcome.value}" for outcome in Outcome)


def as_json(parts: Sequence[Part]) -> list[dict[str, object]]:
    return [
        {
            "protocol": part.protocol,
            "check": result.name,
            "sentence": result.sentence,
            "outcome": result.outcome.name.lower(),
            "detail": result.detail,
            "source": result.source.url,
        }
        for part in parts
        for result in part.results
    ]
