"""The charts, drawn from results/PROCESSOR/summary.json: 1600 pixels wide, to be shown at 800."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.contenders import CONTENDERS, OURS, THIS, WITH_INT8
from benchmarks.figures import AT
from benchmarks.processors import named

mpl.use("Agg")  # files, not windows

BY_NAME = {contender.name: contender for contender in (*CONTENDERS, THIS)}
ACCENT, LIGHTER, INK, GREY, EQUAL = "#0b62a4", "#4a9bdc", "#24292f", "#6e7781", "#b54708"
SERVERS = (ACCENT, EQUAL, GREY, "#1a7f37", "#8250df")  # side by side in one chart
PERCENTILES: dict[str, Literal["-", "--", ":"]] = {"p50_ms": "-", "p95_ms": "--", "p99_ms": ":"}
MANY_REFUSED, REFUSED = 0.01, "more than 1 % refused"
WIDTH_IN, DPI = 8, 200
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def draw(summary: dict[str, Any], directory: Path) -> dict[str, Path]:
    """Writes every chart into a folder; returns their names and paths."""
    drawn = {}
    with mpl.rc_context(STYLE):
        for name, chart in (("throughput", _throughput), ("latency", _latency), ("readme", _readme)):
            figure = chart(summary)
            figure.suptitle(_machine(summary), x=0.02, ha="left", fontsize=11, color=GREY)
            drawn[name] = directory / f"{name}.png"
            figure.savefig(drawn[name], dpi=DPI, metadata={"Software": None})  # the same figures give the same file
    return drawn


def draw_open(found: dict[str, Any], directory: Path) -> dict[str, Path]:
    """Latency by the rate of requests, from open.json."""
    with mpl.rc_context(STYLE):
        figure = _open(found)
        figure.suptitle(_machine(found), x=0.02, ha="left", fontsize=11, color=GREY)
        figure.savefig(directory / "open.png", dpi=DPI, metadata={"Software": None})
    return {"open": directory / "open.png"}


def _open(found: dict[str, Any]) -> Figure:
    """p50, p95 and p99 of each server as lines; a closed loop's throughput as a vertical line."""
    figure, axes = _figure(5)
    axes.set_yscale("log")
    handles = [Line2D([], [], color=INK, linestyle=style, label=key[:3]) for key, style in PERCENTILES.items()]
    handles.append(Line2D([], [], color=INK, linestyle="", marker="o", markerfacecolor="white", label=REFUSED))
    for (name, each), colour in zip(found["contenders"].items(), cycle(SERVERS)):
        shares = [share for share in each["shares"].values() if share["p50_ms"]]
        rates = [share["rate"]["median"] for share in shares]
        for key, style in PERCENTILES.items():
            axes.plot(rates, [share[key]["median"] for share in shares], style, color=colour)
            for rate, share in zip(rates, shares):
                face = "white" if share["not_answered"]["median"] > MANY_REFUSED else colour
                axes.plot(rate, share[key]["median"], "o", color=colour, markerfacecolor=face, markersize=5)
        capacity = each["capacity"]["median"]
        axes.axvline(capacity, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        label = f"{BY_NAME[name].title} (at the line, {capacity:.0f}: a closed loop)"
        handles.append(Line2D([], [], color=colour, linewidth=3, label=label))
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.set_xlabel("requests per second, whether or not earlier ones are answered", loc="left")
    axes.set_ylabel("ms from when a request was due")
    return figure


def _readme(summary: dict[str, Any]) -> Figure:
    """Bars of throughput at the targets' concurrency, the limit as a line."""
    found = sorted(
        ((name, at(summary, name, AT, "throughput")) for name in summary["contenders"]),
        key=lambda pair: pair[1]["median"],
    )
    figure, axes = _figure(0.42 * len(found) + 1.4)
    limits = _limits(summary)
    limit = max(limits.values())
    for place, (name, spread) in enumerate(found):
        axes.barh(place, spread["median"], color=_colour(name), height=0.66)
        axes.plot([spread["least"], spread["most"]], [place, place], color=INK, linewidth=1.2)
        axes.text(spread["most"] + limit * 0.012, place, f"{spread['median']:.0f}", va="center")
    for title, value in limits.items():
        axes.axvline(value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        row = len(found) - 0.42 if value == limit else len(found) + 0.08
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the other one's line
        axes.text(value, row, f"{title}: {value:.0f} ", ha="right", va="bottom", bbox=behind)
    axes.set_yticks(range(len(found)), [BY_NAME[name].title for name, _ in found])
    axes.set_ylim(-0.6, len(found) + 0.05 + 0.5 * (len(limits) - 1))
    axes.set_xlim(0, max(limit, found[-1][1]["most"]) * 1.08)
    axes.set_xlabel(f"photographs per second: {AT} clients, more is better", loc="left", labelpad=8)
    axes.tick_params(axis="y", length=0)
    for label in axes.get_yticklabels():
        if label.get_text() in (THIS.title, WITH_INT8.title):
            label.set_fontweight("bold")
    axes.spines["left"].set_visible(False)
    return figure


def _throughput(summary: dict[str, Any]) -> Figure:
    """Throughput by concurrency: a line for each server, with its name at the end."""
    figure, axes = _figure(5.5)
    ends = []
    for name in summary["contenders"]:
        concurrencies = [int(key) for key in summary["contenders"][name]["loads"]]
        spreads = [at(summary, name, concurrency, "throughput") for concurrency in concurrencies]
        medians = [spread["median"] for spread in spreads]
        errors = [
            [spread["median"] - spread["least"] for spread in spreads],
            [spread["most"] - spread["median"] for spread in spreads],
        ]
        places = range(len(concurrencies))
        style = "--" if BY_NAME[name].equal_work else "-"
        axes.errorbar(
            places,
            medians,
            errors,
            color=_colour(name),
            linestyle=style,
            linewidth=1.4 if BY_NAME[name].is_peer else 2.4,
            marker="o",
            markersize=4,
            capsize=3,
            elinewidth=1,
        )
        ends.append((medians[-1], BY_NAME[name].title, _colour(name)))
    for title, limit in _limits(summary).items():
        axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        ends.append((limit, title, INK))
    axes.set_xticks(range(len(concurrencies)), [str(concurrency) for concurrency in concurrencies])
    axes.set_xlim(-0.1, len(concurrencies) - 1 + 0.06)
    axes.set_ylim(0, max(end[0] for end in ends) * 1.08)
    axes.set_xlabel("clients")
    axes.set_ylabel("photographs per second")
    _name_lines(axes, ends, len(concurrencies) - 1 + 0.05)
    figure.get_layout_engine().set(rect=(0, 0, 0.98, 1))  # type: ignore[union-attr, call-arg]
    return figure


def _latency(summary: dict[str, Any]) -> Figure:
    """p50 and p99 at the targets' concurrency: a row for each server."""
    found = sorted(
        ((name, at(summary, name, AT, "p50_ms"), at(summary, name, AT, "p99_ms")) for name in summary["contenders"]),
        key=lambda row: -row[1]["median"],
    )
    figure, axes = _figure(0.46 * len(found) + 1.5)
    axes.set_xscale("log")
    for place, (name, p50, p99) in enumerate(found):
        axes.plot([p50["median"], p99["median"]], [place, place], color=_colour(name), linewidth=2)
        for spread, filled in ((p50, True), (p99, False)):
            axes.plot([spread["least"], spread["most"]], [place, place], color=_colour(name), linewidth=6, alpha=0.3)
            axes.plot(
                spread["median"],
                place,
                "o",
                color=_colour(name),
                markerfacecolor=_colour(name) if filled else "white",
                markersize=8,
            )
        for spread, side in ((p50, -1), (p99, 1)):
            axes.annotate(
                f"{spread['median']:.0f}",
                (spread["least" if side < 0 else "most"], place),
                (9 * side, 0),
                textcoords="offset points",
                ha="right" if side < 0 else "left",
                va="center",
            )
    axes.set_yticks(range(len(found)), [BY_NAME[name].title for name, _, _ in found])
    axes.set_ylim(-0.5, len(found) - 0.5)
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.set_xlabel(f"ms at {AT} clients: p50 (filled) and p99 (hollow), less is better", loc="left")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def at(summary: dict[str, Any], name: str, concurrency: int, key: str) -> dict[str, float]:
    """A contender's figure; zeros if nothing was answered."""
    nothing = {"median": 0.0, "least": 0.0, "most": 0.0}
    return summary["contenders"][name]["loads"][str(concurrency)][key] or nothing


def _limits(summary: dict[str, Any]) -> dict[str, float]:
    """Title → photographs per second."""
    names = {OURS: "in-process limit", WITH_INT8.name: "in-process limit, int8"}
    return {names[mine]: limit["best"]["small"]["median"] for mine, limit in summary["limit"].items()}


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    return figure, figure.add_subplot()


def _colour(name: str) -> str:
    if not BY_NAME[name].is_peer:
        return ACCENT if name == OURS else LIGHTER
    return EQUAL if BY_NAME[name].equal_work else GREY


def _machine(summary: dict[str, Any]) -> str:
    return f"{named(summary['machine'])}, {summary['machine']['cores']} cores"


def _name_lines(axes: Axes, ends: list[tuple[float, str, str]], x: float) -> None:
    """A name for each line, joined to its end; overlapping names move apart."""
    ends = sorted(ends)
    for (value, title, colour), height in zip(ends, apart([end[0] for end in ends], axes.get_ylim()[1] * 0.05)):
        axes.plot([x, x + 0.1], [value, height], color=colour, linewidth=0.8, clip_on=False)
        axes.text(x + 0.13, height, title, color=colour, va="center", clip_on=False)


def apart(heights: list[float], least: float) -> list[float]:
    """Ordered heights, moved until neighbours are `least` apart: groups that are too dense spread around their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _middle(groups[-1]) - _middle(groups[-2]) < least * len(groups[-2] + groups[-1]) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_middle(group) + least * (place - (len(group) - 1) / 2) for group in groups for place in range(len(group))]


def _middle(group: list[float]) -> float:
    return sum(group) / len(group)
