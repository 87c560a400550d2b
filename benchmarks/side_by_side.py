"""All measured processors side by side, so that readers find their own."""

from __future__ import annotations

from typing import Any

from benchmarks import processors, records, tables
from benchmarks.charts import BY_NAME
from benchmarks.contenders import INT8, OURS
from benchmarks.figures import AT
from benchmarks.places import RESULTS
from benchmarks.processors import Kind
from benchmarks.records import Records


def of_benchmarks(found: list[Records]) -> dict[str, str]:
    """Name → table, for benchmarks/README.md."""
    return {
        "processors": _kinds(found),
        "fast": _fast(found),
        "targets": _targets(found),
        "peers": tables.peers(),
    }


def of_the_project(found: list[Records]) -> dict[str, str]:
    """Name → chart, for the checkout's README.md: of the processor with the most contenders; of several, the newest."""
    each, summary = max(_summaries(found), key=lambda one: (len(one[1]["contenders"]), one[1]["date"]))
    chart = (
        f"![Photographs per second with {AT} clients on {summary['machine']['cores']} cores, "
        f"{processors.named(summary['machine'])}: this project, its peers, and the limit]"
        f"(benchmarks/{RESULTS.name}/{each.folder.name}/readme.png)"
    )
    return {"how fast": chart}


def _kinds(found: list[Records]) -> str:
    rows = []
    for kind in processors.KINDS:
        pages = [_link(each) for each in found if processors.kind_of(each.machine) == kind]
        rows.append(
            (kind.title, kind.processors, kind.machines, ", ".join(pages or _simulated(kind, found)) or tables.NONE)
        )
    return tables.table(("", "such as", "Google Cloud machines", "measured on"), rows)


def _simulated(kind: Kind, found: list[Records]) -> list[str]:
    """Links to results of other processors, limited to this kind's instructions."""
    read = [each for each in found if kind.title in (each.read(records.ISA) or {"sets": {}})["sets"]]
    return [f"[simulated](results/{each.folder.name}/README.md#other-processors-simulated)" for each in read]


def _fast(found: list[Records]) -> str:
    """Photographs per second with 32 clients; in brackets, how many times as many this project answers.

    In the default precision, and then in int8 if that was measured.
    """
    summaries = _summaries(found)
    names = [name for name in BY_NAME if any(name in summary["contenders"] for _, summary in summaries)]
    names.sort(key=lambda name: (name != OURS, BY_NAME[name].is_peer))
    rows = [[tables.title(name), *(_of_contender(summary, name) for _, summary in summaries)] for name in names]
    for mine in (OURS, INT8):
        limits = [summary["limit"].get(mine) for _, summary in summaries]
        if any(limits):
            cells = (f"{limit['best']['small']['median']:.0f}" if limit else tables.NONE for limit in limits)
            rows.append([f"the same work as {BY_NAME[mine].title} in-process, without HTTP", *cells])
    rows.append(["measured", *(summary["date"] for _, summary in summaries)])
    return tables.table((f"photographs a second, {AT} clients", *(_link(each) for each, _ in summaries)), rows)


def _of_contender(summary: dict[str, Any], name: str) -> str:
    if name not in summary["contenders"]:
        return tables.NONE
    throughput = summary["contenders"][name]["loads"][str(AT)]["throughput"]
    made = f"{throughput['median']:.0f}" if throughput else "0"
    if not BY_NAME[name].is_peer:
        return made
    ratios = (of_mine[name][f"throughput_{AT}"] for of_mine in summary["ratios"].values())
    times = [f"{each['median']:.1f}×" for each in ratios if each]
    return f"{made} ({', '.join(times)})" if times else made


def _targets(found: list[Records]) -> str:
    """A row for each target of any processor."""
    of_each = [(each, each.targets()) for each in found]
    of_each = [(each, targets) for each, targets in of_each if targets]
    whats = list(dict.fromkeys(target["what"] for _, targets in of_each for target in targets))
    rows = []
    for what in whats:
        cells = (next((each for each in targets if each["what"] == what), None) for _, targets in of_each)
        rows.append([what, *map(_of_target, cells)])
    return tables.table(("", *(_link(each) for each, _ in of_each)), rows)


def _of_target(target: dict[str, Any] | None) -> str:
    if target is None or target["figure"] is None:
        return tables.NONE
    return f"{target['figure']['median']:.2f}, {tables.bound(target)}: {tables.verdict(target)}"


def _summaries(found: list[Records]) -> list[tuple[Records, dict[str, Any]]]:
    read = ((each, each.read(records.SUMMARY)) for each in found)
    return [(each, summary) for each, summary in read if summary]


def _link(each: Records) -> str:
    return f"[{processors.named(each.machine)}]({RESULTS.name}/{each.folder.name}/README.md)"
