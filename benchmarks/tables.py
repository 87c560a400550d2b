"""The measurements as tables and sentences in Markdown: pages.py writes them, so that they cannot drift."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import door_figures, processors, simulated
from benchmarks.charts import BY_NAME
from benchmarks.contenders import OURS
from benchmarks.figures import AT, SAME_BATCH
from benchmarks.places import ROOM
from benchmarks.protocols import CLIENTS

README = ROOM / "README.md"

# US dollars per hour in europe-west4 on 30 July 2026: terraform/README.md. A node has four CPUs; GKE's own pods leave
# fewer than the four that two pods would request.
NODE_PRICE = {"spot": 0.08938, "on demand": 0.21169}
PRICED = "amx"  # the processors of c3-standard-4, whose price that is
LOADED = 2 / 3  # of what a pod answers with 32 clients: the rest is for bursts, and for the time until a pod starts
NONE = "–"
OPEN_COLUMNS = (("rate", 0), ("p50_ms", 0), ("p95_ms", 0), ("p99_ms", 0), ("late_p99_ms", 1))
ARRIVALS = {"Poisson": "at random, as from many independent clients", "even": "at even intervals"}
KINDS_OF_BODIES = {"small": "500×375", "large": "12 megapixels", "raw": "12 megapixels, sent as they are"}
# Whether this project was behind the front door; the records of the door and of protocols do not say.
DOORS = {True: ", this project behind Envoy", False: ", no front door before this project", None: ""}


def profile(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    """before, now: from `profile.profile`; before: at an earlier commit."""
    found = [each for each in (before, now) if each]
    whats = {what: None for each in reversed(found) for what in each["ms_per_request"]}
    rows = [[what, *(f"{each['ms_per_request'].get(what, 0):.2f}" for each in found)] for what in whats]
    rows.append(["**total**", *(f"**{sum(each['ms_per_request'].values()):.2f}**" for each in found)])
    rows.append(["requests/s", *(f"{each['throughput']:.0f}" for each in found)])
    return table(("ms of one core per request", *(each["date"] for each in found)), rows)


def write_explanations(found: dict[str, Any], readme: Path = README) -> None:
    """found: the content of results/explanations.json."""
    fill_in({"explanations": explanations(found)}, readme)


def explanations(found: dict[str, Any]) -> str:
    shown = ("best", "random", "random block", "middle", "without best", "without random")
    head = ("remaining share of the probability", "photographs", *shown, "CPU, ms")
    rows = [
        (
            f"{'Grad-CAM' if way['explained_by'] == 'grad-cam' else 'occlusion'}, {way['squares']} × {way['squares']}",
            str(way["photographs"]),
            *(f"{way[name]:.2f}" for name in shown),
            f"{way['cpu_ms']:.0f}",
        )
        for way in found["ways"]
    ]
    said = f"{found['date']}, {found['machine']['processor']}; {found['model']}, {found['precision']}."
    return f"{said}\n\n{table(head, rows)}"


def door(found: dict[str, Any]) -> str:
    """The figures and the goals."""
    parts = [
        _machine(found),
        table(("", "with the door", "without"), _door_rows(found["figures"])),
        table(("", "measured", "goal", ""), _target_rows(found["goals"])),
    ]
    return "\n\n".join(parts)


def protocols(found: dict[str, Any]) -> str:
    """The figures and the goals for each kind of photograph."""
    names = (("bytes", 0), ("bytes_ratio", 2), ("throughput", 1), ("ratio", 2), ("cpu_ms", 2), ("cpu_ratio", 2))
    parts = [_machine(found)]
    for kind, clients in CLIENTS.items():
        part = found["kinds"][kind.name]
        head = (
            kind.name,
            "bytes",
            "against v1's",
            f"requests/s, {clients} clients",
            "against v1's",
            "CPU, ms",
            "requests per CPU time, against v1's",
        )
        rows = [
            (way, *(_of_protocol(figures[name], name, digits) for name, digits in names))
            for way, figures in part["figures"].items()
        ]
        parts += [table(head, rows), table((kind.name, "measured", "goal", ""), _target_rows(part["goals"]))]
    return "\n\n".join(parts)


def _of_protocol(value: dict[str, float], name: str, digits: int) -> str:
    """Bytes are the same in all rounds."""
    return f"{value['median']:.{digits}f}" if name.startswith("bytes") else spread(value, digits)


def isa(found: dict[str, Any], reasons: dict[str, str]) -> str:
    """A row for each instruction set and precision in isa.json; and the targets."""
    rows = []
    for title_of_set, of_set in found["sets"].items():
        for precision, figures in of_set["precisions"].items():
            default = precision == of_set["default"]
            what = (title_of_set, f"**{precision}**" if default else precision)
            if "refused" in figures:
                rows.append((*what, *(NONE for _ in simulated.BATCHES), NONE, NONE))
                continue
            forward, request = figures["forward"], figures["request"]
            same = str(SAME_BATCH)
            usual = of_set["precisions"][of_set["default"]]["forward"][same]["median"]
            times = NONE if default else f"{usual / forward[same]['median']:.2f}×"
            rows.append((*what, *(spread(each, 2) for each in forward.values()), times, spread(request[same], 2)))
    head = (
        "limited to",
        "",
        *(f"in batches of {size}" for size in simulated.BATCHES),
        "as fast as the default, at 16",
        "request at 16",
    )
    said = (
        f"{found['date']}, {processors.named(found['machine'])}, one thread; torch {found['machine']['torch']}; "
        f"{found['weights']} weights; {_rounds(found)}."
    )
    return f"{said}\n\n{table(head, rows)}\n\n{targets(found['goals'], reasons)}"


def open_loop(found: dict[str, Any]) -> str:
    """A row for each rate, and one for the closed loop."""
    rows = []
    for name, each in found["contenders"].items():
        for share, of_it in each["shares"].items():
            missed = of_it["not_answered"]
            lost = f"{100 * missed['median']:.1f} %" if missed else NONE
            what = f"{title(name)}, {float(share):.0%} of {each['capacity']['median']:.0f}"
            rows.append([what, *(spread(of_it[key], digits) for key, digits in OPEN_COLUMNS), lost])
        closed = each["closed"]
        cells = (spread(closed["throughput"]), spread(closed["p50_ms"]), NONE, spread(closed["p99_ms"]), NONE, NONE)
        rows.append([f"{title(name)}, {AT} clients in a closed loop", *cells])
    head = ("requests/s", "come", "p50, ms", "p95, ms", "p99, ms", "sent late, ms (p99)", "not answered with 200")
    said = f"{_machine(found)} Requests come {ARRIVALS[found['arrivals']]}."
    return f"{said}\n\n{table(head, rows)}"


def door_table(figures: dict[str, Any]) -> Table:
    """The figures, for a terminal."""
    table = Table("", "with the door", "without")
    for row in _door_rows(figures):
        table.add_row(*row)
    return table


def _door_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (what, spread(with_it, digits), spread(without, digits))
        for what, with_it, without, digits in door_figures.rows(figures)
    ]


def fill_in(tables: dict[str, str], readme: Path) -> None:
    """Replaces the text between `<!-- NAME -->` and `<!-- /NAME -->` by each table; the rest of the file stays."""
    text = readme.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{readme}: expected the markers <!-- {name} --> and <!-- /{name} --> once, in this order")
    readme.write_text(text, encoding="utf-8")


def tables(summary: dict[str, Any]) -> dict[str, str]:
    """Name → table, or sentence, in Markdown."""
    found = {
        "machine": _machine(summary),
        "throughput": _throughput(summary, equal_work=False),
        "equal work": _throughput(summary, equal_work=True),
        "latency": _latency(summary),
        "resources": _resources(summary),
        "limit": _limit(summary),
        "many": _many(summary),
        "refusals": _refusals(summary),
    }
    if processors.kind_of(summary["machine"]).name == PRICED:
        found["cost"] = _cost(summary)
    return found


def bound(target: dict[str, Any]) -> str:
    return f"{'≥' if target['at_least'] else '≤'} {target['bound']:g}"


def verdict(target: dict[str, Any]) -> str:
    return {True: "met", False: "not met", None: "not measured"}[target["met"]]


def spread(value: dict[str, float] | None, digits: int = 0) -> str:
    """`median (least–most)`."""
    if value is None:
        return NONE
    return f"{value['median']:.{digits}f} ({value['least']:.{digits}f}–{value['most']:.{digits}f})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rounds(found: dict[str, Any]) -> str:
    return f"{found['round_count']} round{'s' if found['round_count'] > 1 else ''}"


def _machine(summary: dict[str, Any]) -> str:
    machine = summary["machine"]
    sizes = "; ".join(
        f"{name}: {size['images']} files of {size['smallest'] / 1000:.0f} to {size['largest'] / 1000:.0f} kB"
        for name, size in summary["images"].items()
    )
    return (
        f"{summary['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"Python {machine['python']}, torch {machine['torch']}, TorchServe {machine['torchserve']}; "
        f"{summary['weights']} weights{DOORS[summary.get('front_door')]}; "
        f"{_rounds(summary)} in {summary['seconds'] / 60:.0f} minutes, "
        f"each load for {summary['load_s']:g} s after {summary['warm_up_s']:g} s of warm-up. "
        f"Photographs: {sizes}."
    )


def targets(found: list[dict[str, Any]], reasons: dict[str, str]) -> str:
    """reasons: what → why it is missed."""
    whys = (reasons.get(target["what"], "") if target["met"] is False else "" for target in found)
    rows = ((*row, why) for row, why in zip(_target_rows(found), whys, strict=True))
    return table(("", "measured", "target", "", "why it is missed"), rows)


def _target_rows(targets: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [(each["what"], spread(each["figure"], 2), bound(each), verdict(each)) for each in targets]


def peers() -> str:
    return table(("", "as it is run"), ((title(each.name), each.note) for each in BY_NAME.values()))


def _throughput(summary: dict[str, Any], equal_work: bool) -> str:
    names = [
        name for name in summary["contenders"] if not BY_NAME[name].is_peer or BY_NAME[name].equal_work == equal_work
    ]
    concurrencies = list(summary["contenders"][OURS]["loads"])
    rows = []
    for name in names:
        loads = summary["contenders"][name]["loads"]
        ours = summary["ratios"][OURS].get(name, {}).get("throughput_32")
        row = [title(name), *(spread(loads[each]["throughput"]) for each in concurrencies)]
        rows.append([*row, f"{spread(ours, 1)}×" if ours else NONE])
    return table(("requests/s at", *(f"{each}" for each in concurrencies), "ours at 32"), rows)


def _latency(summary: dict[str, Any]) -> str:
    rows = []
    for name, found in summary["contenders"].items():
        loads = found["loads"]
        alone, many = loads["1"], loads["32"]
        cells = (spread(alone["p50_ms"], 1), spread(alone["p99_ms"], 1), spread(many["p50_ms"]), spread(many["p99_ms"]))
        rows.append((title(name), *cells))
    return table(("ms", "p50 at 1", "p99 at 1", "p50 at 32", "p99 at 32"), rows)


def _resources(summary: dict[str, Any]) -> str:
    rows = []
    for name, found in summary["contenders"].items():
        generator = found["loads"]["32"]["own_cpu_ms_per_request"]
        cells = (spread(found["startup_s"], 1), spread(found["pss_mb"]), spread(found["rss_mb"]))
        rows.append((title(name), *cells, spread(generator, 2)))
    floor = summary["floor"]
    floors = (
        f"A JVM starts in {spread(floor['jvm'], 2)} s, TorchServe without a model answers after "
        f"{spread(floor['front_end'], 2)} s, `import torch` takes {spread(floor['import_torch'], 2)} s."
    )
    head = ("", "start-up, s", "PSS, MB", "RSS, MB", "load generator's CPU per request at 32, ms")
    return f"{table(head, rows)}\n\n{floors}"


def _limit(summary: dict[str, Any]) -> str:
    sizes = list(summary["limit"][OURS]["throughput"]["small"])
    parts = []
    for mine, limit in summary["limit"].items():
        rows = []
        for kind, title_of_it in KINDS_OF_BODIES.items():
            if throughput := limit["throughput"].get(kind):
                of_ours = summary["contenders"][mine]["loads"]["32"]["throughput"]
                of_ours = of_ours if kind == "small" else summary["large"][mine][kind]
                rows.append((title_of_it, *(spread(throughput.get(size), 1) for size in sizes), spread(of_ours, 1)))
        head = (f"images/s{_in(limit)} in batches of", *sizes, BY_NAME[mine].title)
        parts += [table(head, rows), f"One image alone, with all cores: {spread(limit['one_image_ms'], 1)} ms."]
    return "\n\n".join(parts)


def _in(limit: dict[str, Any]) -> str:
    return f", {limit['precision']}," if limit["precision"] else ""


def _many(summary: dict[str, Any]) -> str:
    return table(("", "images/s"), ((what, spread(found)) for what, found in summary["many"].items()))


def _cost(summary: dict[str, Any]) -> str:
    per_second = summary["contenders"][OURS]["loads"]["32"]["throughput"]["median"]
    hours = 1_000_000 / per_second / 3600
    rows = []
    for kind, price in NODE_PRICE.items():
        cells = [f"{hours * price:.3f}"]
        for rate in (100, 1_000):
            pods = math.ceil(rate / (per_second * LOADED))
            cells.append(f"{pods} pod{'s' if pods > 1 else ''}, {pods * price * 730:.0f} $ per month")
        rows.append((kind, *cells))
    return table(("c3-standard-4", "$ per million images", "for 100 images/s", "for 1,000 images/s"), rows)


def _refusals(summary: dict[str, Any]) -> str:
    """Requests not answered with 200, which are in no figure above."""
    rows = []
    for name, found in summary["contenders"].items():
        for concurrency, each in found["loads"].items():
            if each["errors"]:
                kinds = ", ".join(each["error_kinds"])
                rows.append((title(name), concurrency, str(each["requests"]), str(each["errors"]), kinds))
    if not rows:
        return "Every request of every run was answered with status 200."
    return table(("", "clients", "answered", "not answered", "with"), rows)


def title(name: str) -> str:
    return BY_NAME[name].title if BY_NAME[name].is_peer else f"**{BY_NAME[name].title}**"
