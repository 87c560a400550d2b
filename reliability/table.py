"""Writes what the results say into docs/reliability.md, between its markers.

PYTHONPATH=. python -P -m reliability.table
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from reliability.__main__ import RESULTS
from reliability.cases import CASES
from reliability.servers import OURS, STOCK
from reliability.soak import REQUESTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
TITLES = {OURS: "This project", STOCK: "Stock TorchServe"}
COLUMNS = (
    "fault",
    "lost beyond the batch in flight",
    "longest time without an answer",
    "latency, p50 and p99",
    "what clients saw",
    "otherwise",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
# Figures of single cases: name, and how they are said.
OWN = {
    "workers_again_s": "workers again after {:.1f} s",
    "noticed_s": "the container ended after {:.1f} s",
    "workers_gone_s": "its workers after {:.1f} s",
    "ended_s": "it ended after {:.1f} s",
    "killed_by_kernel_s": "a worker was killed after {:.1f} s",
    "serves_after_release_s": "quick again after {:.1f} s",
    "vanished": "{} clients vanished",
    "idle": "{} idle connections",
    "descriptors": "{} descriptors for them",
    "capacity_per_s": "capacity {:.0f}/s",
    "offered_per_s": "asked {:.0f}/s",
    "answered_per_s": "answered {:.0f}/s",
    "refused_p50_s": "a refusal takes {:.2f} s (median)",
    "unread_log_bytes": "{} bytes of the log unread",
}


def main() -> int:
    text = PAGE.read_text()
    for kind in (OURS, STOCK):
        for name, written in (("faults", faults(kind)), ("soak", soak(kind))):
            text = put(text, f"{name}-{kind}", written)
    text = put(text, "attack-surface", attack_surface())
    PAGE.write_text(put(text, "bad-input", bad_input()))
    return 0


def put(text: str, marker: str, written: str) -> str:
    """Replaces what is between `<!-- marker -->` and `<!-- end -->`."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"error: {PAGE} has no marker <!-- {marker} -->")
    return pattern.sub(lambda found: found[1] + written + found[2], text)


def faults(kind: str) -> str:
    file = RESULTS / f"{kind}.json"
    if not file.is_file():
        return ""
    results = json.loads(file.read_text())
    rows = [row(name, results[name]) for name in CASES if name in results]
    dates = sorted({result["date"] for result in results.values()})
    starts = [result["start_s"] for result in results.values() if "start_s" in result]
    processors = next(iter(results.values()))["processors"]
    about = f"{TITLES[kind]}, {' to '.join(sorted({dates[0], dates[-1]}))}, {processors} processors"
    if starts:
        about += f"; from its start to its first answer {min(starts):.1f} to {max(starts):.1f} s"
    return "\n".join([f"{about}. `make chaos SERVER={kind}`", "", HEAD, *rows]) + "\n"


def row(name: str, result: dict[str, Any]) -> str:
    title = name.replace("_", " ")
    if "skipped" in result:
        return f"| {title} | not tried: {result['skipped']} | | | | |"
    if "outcomes" not in result:
        return f"| {title} | **{'; '.join(result['failed'])}** | | | | |"
    own = [text.format(result[key]) for key, text in OWN.items() if result.get(key) is not None]
    own += [f"**{fault}**" for fault in result["failed"]]
    cells = [
        f"{result['lost_beyond']} ({result['lost']} of at most {result['in_flight']})",
        seconds(result.get("outage_s")),
        f"{seconds(result['latency_p50_s'])}, {seconds(result['latency_p99_s'])}",
        ", ".join(f"{count} × {outcome}" for outcome, count in sorted(result["outcomes"].items())),
        "; ".join(own),
    ]
    return f"| {title} | {' | '.join(cells)} |"


def bad_input() -> str:
    files = {kind: RESULTS / f"bad-input-{kind}.json" for kind in (OURS, STOCK)}
    found = {kind: json.loads(file.read_text()) for kind, file in files.items() if file.is_file()}
    rows = {
        "requests": lambda it: str(it["cases"]),
        "answers": lambda it: ", ".join(f"{count} × {status}" for status, count in it["statuses"].items()),
        "400, 403 or 413 without a place": lambda it: str(it["refusals_without_a_place"]),
        "slowest answer": lambda it: f"{it['slowest_s']:.1f} s ({it['slowest']})",
        "good requests beside them, and how many were not answered right": lambda it: (
            f"{it['beside']}, {it['beside_lost']}"
        ),
        "workers replaced": lambda it: str(it["workers_replaced"]),
        "date": lambda it: it["date"],
    }
    lines = [f"| | {' | '.join(TITLES[kind] for kind in found)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| {name} | {' | '.join(said(it) for it in found.values())} |" for name, said in rows.items()]
    return "\n".join(lines) + "\n"


def attack_surface() -> str:
    files = {kind: RESULTS / f"attack-surface-{kind}.json" for kind in (OURS, STOCK)}
    found = {kind: json.loads(file.read_text()) for kind, file in files.items() if file.is_file()}
    lines = [f"| | {' | '.join(TITLES[kind] for kind in found)} |", f"|---|{'---|' * len(found)}"]
    lines.append(f"| ports that listen to other hosts | {' | '.join(', '.join(it['open']) for it in found.values())} |")
    for name in next(iter(found.values()), {"steps": {}})["steps"]:
        lines.append(f"| {name} | {' | '.join(it['steps'][name] for it in found.values())} |")
    lines.append(f"| date | {' | '.join(it['date'] for it in found.values())} |")
    return "\n".join(lines).replace("_", " ") + "\n"


def soak(kind: str) -> str:
    file = RESULTS / f"soak-{kind}.json"
    if not file.is_file():
        return ""
    result = json.loads(file.read_text())
    first, last = result["measurements"][1], result["measurements"][-1]
    outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in result["outcomes"].items())
    lines = [
        f"{TITLES[kind]}, {result['date']}: {result['requests']} requests in {result['seconds']:.0f} s, {outcomes}. "
        f"`{soak_command(kind, result['asked'])}`",
        "",
        "| | after a tenth | at the end |",
        "|---|---|---|",
        *(f"| {name.replace('_mb', ', MB')} | {first[name]:.0f} | {last[name]:.0f} |" for name in first),
    ]
    return "\n".join(lines) + "\n"


def soak_command(kind: str, asked: int) -> str:
    if asked == REQUESTS:
        return f"make soak SERVER={kind}"
    return f"PYTHONPATH=. python -P -m reliability.soak --server {kind} --requests {asked}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
