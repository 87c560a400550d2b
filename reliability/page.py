"""Writes the results into docs/reliability.md, between its markers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pipeline.serving.comparison import percent
from pipeline.shared.errors import PipelineError
from reliability import results
from reliability.attack_surface import Surface
from reliability.bad_input import Answers
from reliability.candidates import Candidates, Judged
from reliability.faults import FAULTS
from reliability.faults.outcome import Outcome
from reliability.servers import OURS, STOCK, TITLES, Kind
from reliability.soak import REQUESTS, Soak

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
COLUMNS = (
    "fault",
    "lost beyond the batch in flight",
    "longest time without an answer",
    "latency, p50 and p99",
    "what clients saw",
    "other observations",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
# Figures of single cases: name, and the text for them.
OWN = {
    "workers_again_s": "workers again after {:.1f} s",
    "noticed_s": "the container ended after {:.1f} s",
    "workers_gone_s": "its workers after {:.1f} s",
    "ended_s": "it ended after {:.1f} s",
    "killed_by_kernel_s": "a worker was killed after {:.1f} s",
    "serves_after_release_s": "fast again after {:.1f} s",
    "vanished": "{} clients vanished",
    "idle": "{} idle connections",
    "descriptors": "{} descriptors for them",
    "capacity_per_s": "capacity {:.0f}/s",
    "offered_per_s": "requested {:.0f}/s",
    "answered_per_s": "answered {:.0f}/s",
    "refused_p50_s": "a refusal takes {:.2f} s (median)",
    "unread_log_bytes": "{} bytes of the log unread",
}


def write(say: Callable[[str], None], page: Path = PAGE) -> None:
    """Writes each table whose results are complete; the others stay, which `say` reports."""
    tables = {
        "faults-ours": faults(OURS),
        "faults-stock": faults(STOCK),
        "soak-ours": soak(OURS),
        "soak-stock": soak(STOCK),
        "bad-input": bad_input(),
        "attack-surface": attack_surface(),
        "candidates": candidates(),
    }
    text = page.read_text(encoding="utf-8")
    for marker, table in tables.items():
        if table is None:
            say(f"{marker}: its results are incomplete, so its table stays")
        else:
            text = put(text, marker, table)
    page.write_text(text, encoding="utf-8")


def put(text: str, marker: str, table: str) -> str:
    """Replaces the text between `<!-- marker -->` and `<!-- end -->`; raises PipelineError if these are missing."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise PipelineError(f"docs/reliability.md has no marker <!-- {marker} -->")
    return pattern.sub(lambda found: found[1] + table + found[2], text)


def faults(kind: Kind) -> str | None:
    """The table, or None if a fault has no result."""
    stored = results.read("faults", kind) or {}
    if not stored.keys() >= FAULTS.keys():
        return None
    outcomes = {name: Outcome.of(stored[name]) for name in FAULTS}
    dates = sorted(outcome.date for outcome in outcomes.values())
    starts = [outcome.seen.start_s for outcome in outcomes.values() if outcome.seen]
    processors = outcomes["worker_killed"].processors
    about = f"{TITLES[kind]}, {' to '.join(sorted({dates[0], dates[-1]}))}, {processors} processors"
    if starts:
        about += f"; from its start to its first answer {min(starts):.1f} to {max(starts):.1f} s"
    rows = [row(name, outcome) for name, outcome in outcomes.items()]
    return "\n".join([f"{about}. `make reliability ONLY=faults SERVER={kind}`", "", HEAD, *rows]) + "\n"


def row(name: str, outcome: Outcome) -> str:
    title, seen = name.replace("_", " "), outcome.seen
    if outcome.skipped:
        return f"| {title} | not tried: {outcome.skipped} | | | | |"
    if seen is None:
        return f"| {title} | **{'; '.join(outcome.failed)}** | | | | |"
    own = [text.format(outcome.own[key]) for key, text in OWN.items() if outcome.own.get(key) is not None]
    own += [f"**{fault}**" for fault in outcome.failed]
    cells = [
        f"{seen.lost_beyond} ({seen.lost} of at most {seen.in_flight})",
        seconds(seen.outage_s),
        f"{seconds(seen.latency_p50_s)}, {seconds(seen.latency_p99_s)}",
        ", ".join(f"{count} × {outcome}" for outcome, count in sorted(seen.outcomes.items())),
        "; ".join(own),
    ]
    return f"| {title} | {' | '.join(cells)} |"


def bad_input() -> str | None:
    """The table, or None if either server has no result."""
    found = [Answers(**stored) for kind in TITLES if (stored := results.read("bad-input", kind))]
    rows = {
        "requests": [str(it.cases) for it in found],
        "answers": [", ".join(f"{count} × {status}" for status, count in it.statuses.items()) for it in found],
        "400, 403 or 413 without a place": [str(it.refusals_without_a_place) for it in found],
        "slowest answer": [f"{it.slowest_s:.1f} s ({it.slowest})" for it in found],
        "good requests at the same time, and how many got no right answer": [
            f"{it.beside}, {it.beside_lost}" for it in found
        ],
        "workers replaced": [str(it.workers_replaced) for it in found],
        "date": [it.date for it in found],
    }
    return side_by_side(rows) if len(found) == len(TITLES) else None


def attack_surface() -> str | None:
    """The table, or None if either server has no result."""
    found = [Surface(**stored) for kind in TITLES if (stored := results.read("attack-surface", kind))]
    if len(found) < len(TITLES):
        return None
    rows = {"ports that listen to other hosts": [", ".join(it.open).replace("_", " ") for it in found]}
    rows |= {step: [it.steps[step] for it in found] for step in found[0].steps}
    return side_by_side(rows | {"date": [it.date for it in found]})


def candidates() -> str | None:
    """The table, or None without a result."""
    stored = results.read("candidates", OURS)
    if stored is None:
        return None
    found = Candidates.of(stored)
    lines = [
        f"{found.date}: {found.pictures} pictures, of which the live version recognises {found.known:.0%}. "
        "`make reliability ONLY=candidates`",
        "",
        "| | how many | refused | promoted | the same first class | mean movement |",
        "|---|---|---|---|---|---|",
        *_kinds("damaged", found.damaged),
        *_kinds("equal", found.equal),
    ]
    return "\n".join(lines) + "\n"


def _kinds(title: str, judged: list[Judged]) -> list[str]:
    """A row for each kind, and one for all."""
    kinds = dict.fromkeys(it.kind for it in judged)
    rows = [(f"{title}: {kind}", [it for it in judged if it.kind == kind]) for kind in kinds]
    return [_judged(name, several) for name, several in (*rows, (f"**{title}, all**", judged))]


def _judged(name: str, several: list[Judged]) -> str:
    promoted = sum(it.promoted for it in several)
    agreements, movements = [it.agreement for it in several], [it.movement for it in several]
    cells = (
        str(len(several)),
        str(len(several) - promoted),
        str(promoted),
        f"{percent(min(agreements))} to {percent(max(agreements))}",
        f"{min(movements):.4f} to {max(movements):.4f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def side_by_side(rows: dict[str, list[str]]) -> str:
    """A column for each server."""
    lines = [f"| | {' | '.join(TITLES.values())} |", f"|---|{'---|' * len(TITLES)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]) + "\n"


def soak(kind: Kind) -> str | None:
    """The table, or None without a result."""
    stored = results.read("soak", kind)
    if stored is None:
        return None
    result = Soak.of(stored)
    first, last = vars(result.sizes[1]), vars(result.sizes[-1])
    outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in result.outcomes.items())
    lines = [
        f"{TITLES[kind]}, {result.date}: {result.requests} requests in {result.seconds:.0f} s, {outcomes}. "
        f"`{soak_command(kind, result.asked)}`",
        "",
        "| | after a tenth | at the end |",
        "|---|---|---|",
        *(f"| {name.replace('_mb', ', MB')} | {first[name]:.0f} | {last[name]:.0f} |" for name in first),
    ]
    return "\n".join(lines) + "\n"


def soak_command(kind: Kind, asked: int) -> str:
    if asked == REQUESTS:
        return f"make reliability ONLY=soak SERVER={kind}"
    return f"PYTHONPATH=. python -P -m reliability --only soak --server {kind} --requests {asked}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
