"""Writes pages from the records: one for each processor, and tables of all of them side by side.

results/PROCESSOR/README.md is processor.md with its tables; sections without measurements are left out. In
benchmarks/README.md and the checkout's README.md, only the text between markers is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import processors, records, side_by_side, tables
from benchmarks.places import CHECKOUT, RESULTS, ROOM
from benchmarks.records import Records

TEMPLATE = ROOM / "processor.md"
PAGE = "README.md"
PLACE = re.compile(r"<!-- ([\w ]+) -->")
CHARTS = {
    "throughput chart": "![Photographs per second at each number of clients](throughput.png)",
    "open chart": "![Latency at each rate of requests](open.png)",
    "latency chart": "![p50 and p99 at 32 clients](latency.png)",
}


def write(results: Path = RESULTS, room: Path = ROOM, checkout: Path = CHECKOUT) -> None:
    """Writes all pages from the records."""
    found = records.every(results)
    for each in found:
        (each.folder / PAGE).write_text(page(each), encoding="utf-8")
    tables.fill_in(side_by_side.of_benchmarks(found), room / PAGE)
    tables.fill_in(side_by_side.of_the_project(found), checkout / PAGE)


def page(of: Records) -> str:
    """One processor's page, in Markdown."""
    parts = contents(of)
    head, *sections = TEMPLATE.read_text(encoding="utf-8").split("\n## ")
    kept = [head.format(processor=processors.named(of.machine), about=_about(of.machine))]
    kept += [f"\n## {section}" for section in sections if parts.keys() >= set(PLACE.findall(section))]
    return PLACE.sub(lambda place: parts[place[1]], "".join(kept))


def contents(of: Records) -> dict[str, str]:
    """The text for each place in the template that was measured."""
    parts: dict[str, str] = {}
    if summary := of.read(records.SUMMARY):
        parts |= tables.tables(summary) | {name: CHARTS[name] for name in ("throughput chart", "latency chart")}
        parts["targets"] = tables.targets(summary["targets"], of.reasons())
    if profile := of.read(records.PROFILE):
        parts["profile"] = tables.profile(of.read(records.BEFORE), profile)
    if found := of.read(records.OPEN):
        parts |= {"open": tables.open_loop(found), "open chart": CHARTS["open chart"]}
    if found := of.read(records.ISA):
        parts["isa"] = tables.isa(found, of.reasons())
    if door := of.read(records.DOOR):
        parts["door"] = tables.door(door)
    if protocols := of.read(records.PROTOCOLS):
        parts["protocols"] = tables.protocols(protocols)
    return parts


def _about(machine: dict[str, Any]) -> str:
    kind, sets = processors.kind_of(machine), machine["instruction_sets"]
    known = (
        f" The record lists these of its instruction sets: {', '.join(f'`{each}`' for each in sets)}." if sets else ""
    )
    return f"{kind.title}: such as {kind.processors}. On Google Cloud: {kind.machines}.{known}"
