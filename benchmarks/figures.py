"""Figures from the measurements: medians with their spread, ratios within a round, targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import processors
from benchmarks.contenders import INT8, OURS

AT = 32  # the concurrency of the targets
ALONE, CROWD = 1, 128
STOCK = "torchserve_stock"
LITSERVE, EQUAL = "litserve", "litserve_equal"
SAME_BATCH = 16  # the largest batch (batchSize)
# How bodies of 12 megapixels are sent, and the share of the limit with the same bodies that the server should reach.
LARGE = {"large": ("", 0.8), "raw": (", sent as they are,", 0.95)}
# Bounds that depend on the kind of processor: where AMX multiplies bfloat16, int8 gains less.
BOUNDS = {
    "amx": {"litserve": 4.5, "int8": 1.3, "pss": 0.6},
    "others": {"litserve": 3.5, "int8": 1.6, "pss": 0.55},
}

Run = dict[str, Any]
Part = dict[str, Any]  # one round


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum over some rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """None if there are no values, or one is missing."""
        found = list(values)
        known = [value for value in found if value is not None]
        if not known or len(known) < len(found):
            return None
        return cls(statistics.median(known), min(known), max(known))


@dataclass(frozen=True)
class Target:
    """what; the figure (None if not measured); the bound; whether the figure must be at least or at most the bound."""

    what: str
    figure: Spread | None
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure.median >= self.bound if self.at_least else self.figure.median <= self.bound

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "figure": asdict(self.figure) if self.figure else None,
            "bound": self.bound,
            "at_least": self.at_least,
            "met": self.met,
        }


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """All figures, as they are written to summary.json."""
    rounds = measured["rounds"]
    names = list(dict.fromkeys(run["name"] for run in rounds[0]["runs"]))
    variants = [name for name in (OURS, INT8) if name in names]
    return {
        "contenders": {name: _contender(rounds, name) for name in names},
        "ratios": {mine: {name: _ratios(rounds, name, mine) for name in names if name != mine} for mine in variants},
        "limit": {mine: _limit(rounds, mine) for mine in variants},
        "large": {
            mine: {kind: _spread_of(Spread.of(large_throughput(part, kind, mine) for part in rounds)) for kind in LARGE}
            for mine in variants
        },
        "many": {key: _spread_of(Spread.of(pick(part) for part in rounds)) for key, pick in MANY.items()},
        "floor": {key: _spread_of(Spread.of(part["floor"][key] for part in rounds)) for key in rounds[0]["floor"]},
        "targets": [target.to_json() for target in targets(rounds, measured["machine"])],
    }


def targets(rounds: list[Part], machine: dict[str, Any]) -> list[Target]:
    """Each is the median of a ratio that was taken in every round. Those for int8 only if it was measured.

    Some bounds depend on the kind of processor: see BOUNDS.
    """
    bounds = BOUNDS["amx" if processors.kind_of(machine).name == "amx" else "others"]

    def target(what: str, value: Callable[[Part], float | None], bound: float, at_least: bool = True) -> Target:
        return Target(what, Spread.of(value(part) for part in rounds), bound, at_least)

    def of_variant(mine: str, also: str) -> list[Target]:
        found = [
            target(
                f"throughput against LitServe as documented{also}",
                lambda part: _throughput_ratio(part, LITSERVE, mine),
                bounds["litserve"],
            ),
            target(
                f"throughput against the in-process limit of the same precision{also}",
                lambda part: ratio(
                    _last(part, mine, lambda run: load(run, AT)["throughput"]), best(part, "small", mine)
                ),
                0.85,
            ),
        ]
        for kind, (how, bound) in LARGE.items():
            value = _large_against_limit(kind, mine)
            found.append(target(f"12-megapixel photographs{how} against the in-process limit{also}", value, bound))
        return [
            *found,
            target(
                f"start-up to first answer against stock{also}",
                lambda part: _beside(part, STOCK, lambda run: run["startup_s"], mine),
                0.45,
                False,
            ),
            target(
                f"resident memory (PSS) of the whole server against stock with as many workers{also}",
                lambda part: _beside(part, STOCK, lambda run: run["memory"]["pss_mb"], mine),
                bounds["pss"],
                False,
            ),
        ]

    of_int8 = [
        target(
            "int8 against the default precision: throughput",
            lambda part: _throughput_ratio(part, OURS, INT8),
            bounds["int8"],
        ),
        target(
            f"int8 against the default precision: in-process, in batches of {SAME_BATCH}",
            _int8_in_process,
            bounds["int8"],
        ),
        *of_variant(INT8, ", int8"),
    ]
    return [
        target(
            "throughput against stock TorchServe with the KServe envelope",
            lambda part: _throughput_ratio(part, STOCK),
            8,
        ),
        target("throughput against the same work in LitServe", lambda part: _throughput_ratio(part, EQUAL), 1.5),
        *of_variant(OURS, ""),
        *(of_int8 if any(_runs_of(part, INT8) for part in rounds) else []),
        target(
            "p50 at concurrency 1 against the in-process time of one image with all cores",
            lambda part: ratio(
                _last(part, OURS, lambda run: load(run, ALONE)["p50_ms"]), part["limit"][OURS]["one_image_ms"]
            ),
            1.3,
            False,
        ),
        target(
            "p99 at concurrency 32 against p50",
            lambda part: _median_of_ours(part, lambda run: ratio(load(run, AT)["p99_ms"], load(run, AT)["p50_ms"])),
            2,
            False,
        ),
        target(
            "throughput at concurrency 128 against the best at any concurrency",
            lambda part: _median_of_ours(part, _crowd_against_best),
            0.95,
        ),
        target(
            "start-up to first answer against JVM start (java -version) + import torch",
            lambda part: _startup_against(part, "jvm"),
            1.5,
            False,
        ),
        target(
            "the same, with the JVM's start counted until TorchServe without a model answers",
            lambda part: _startup_against(part, "front_end"),
            1.5,
            False,
        ),
        target(
            "images/s of 64 in one request against 64 requests",
            lambda part: ratio(many_throughput(part, -1), singles_throughput(part)),
            1.2,
        ),
    ]


# --- One round --------------------------------------------------------------------------------------------------------


def beside(part: Part, name: str, mine: str = OURS) -> tuple[Run, Run] | None:
    """A contender's run, and this project's run next to it; None if one of the two was not measured.

    mine: OURS, which runs next to every peer; or INT8, whose nearest run is used.
    """
    places = {
        which: [place for place, run in enumerate(part["runs"]) if run["name"] == which] for which in (name, mine)
    }
    pairs = [(abs(its - own), its, own) for its in places[name] for own in places[mine]]
    if not pairs:
        return None
    _, its, own = min(pairs)
    return part["runs"][its], part["runs"][own]


def load(run: Run, concurrency: int) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in run["loads"] if each["connections"] == concurrency)
    return found


def best(part: Part, kind: str, mine: str) -> float | None:
    """Images/s in-process at the best batch size."""
    sizes = part["limit"].get(mine, {"throughput": {}})["throughput"].get(kind)
    return max(sizes.values()) if sizes else None


def ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other


def large_throughput(part: Part, kind: str, mine: str) -> float | None:
    """Throughput with 12 megapixels, in bodies of this kind of LARGE."""
    found: float | None = _last(part, mine, lambda run: run[kind]["throughput"] if kind in run else None)
    return found


def many_throughput(part: Part, which: int) -> float:
    """Images/s of requests with 64 images each: at the least (0) or the highest (-1) concurrency measured."""
    return float(64 * _last(part, OURS, lambda run: run["many"][which]["throughput"]))


def singles_throughput(part: Part) -> float:
    return float(_last(part, OURS, lambda run: run["singles"]["throughput"]))


MANY: dict[str, Callable[[dict[str, Any]], float]] = {
    "64 in one request, one client": lambda part: many_throughput(part, 0),
    "64 in one request, four clients": lambda part: many_throughput(part, -1),
    "64 requests at a time": singles_throughput,
}


def _runs_of(part: Part, name: str) -> list[Run]:
    return [run for run in part["runs"] if run["name"] == name]


def _median_of_ours(part: Part, value: Callable[[Run], Any]) -> float | None:
    spread = Spread.of(value(run) for run in _runs_of(part, OURS))
    return spread.median if spread else None


def _last(part: Part, mine: str, value: Callable[[Run], Any]) -> Any:
    """A value of this project's run next to the limit; None if it was not measured."""
    runs = _runs_of(part, mine)
    return value(runs[-1]) if runs else None


def _throughput_ratio(part: Part, name: str, mine: str = OURS) -> float | None:
    return _beside(part, name, lambda run: load(run, AT)["throughput"], mine)


def _beside(part: Part, name: str, value: Callable[[Run], float | None], mine: str = OURS) -> float | None:
    """This project's value over a contender's."""
    pair = beside(part, name, mine)
    return ratio(value(pair[1]), value(pair[0])) if pair else None


def _large_against_limit(kind: str, mine: str) -> Callable[[Part], float | None]:
    return lambda part: ratio(large_throughput(part, kind, mine), best(part, kind, mine))


def _int8_in_process(part: Part) -> float | None:
    of_each = (part["limit"].get(mine, {}).get("throughput", {}).get("small", {}) for mine in (INT8, OURS))
    return ratio(*(sizes.get(str(SAME_BATCH)) for sizes in of_each))


def _crowd_against_best(run: Run) -> float | None:
    return ratio(load(run, CROWD)["throughput"], max(each["throughput"] for each in run["loads"]))


def _startup_against(part: Part, start: str) -> float | None:
    return ratio(_last(part, OURS, lambda run: run["startup_s"]), part["floor"][start] + part["floor"]["import_torch"])


# --- All rounds -------------------------------------------------------------------------------------------------------


def _contender(rounds: list[Part], name: str) -> dict[str, Any]:
    runs = [run for part in rounds for run in part["runs"] if run["name"] == name]
    loads: dict[str, dict[str, Any]] = {}
    for concurrency in (each["connections"] for each in runs[0]["loads"]):
        found = [load(run, concurrency) for run in runs]
        keys = ("throughput", "p50_ms", "p99_ms", "own_cpu_ms_per_request")
        loads[str(concurrency)] = {key: _spread_of(Spread.of(each[key] for each in found)) for key in keys}
        loads[str(concurrency)]["requests"] = sum(each["requests"] for each in found)
        loads[str(concurrency)]["errors"] = sum(each["errors"] for each in found)
        loads[str(concurrency)]["error_kinds"] = sorted({kind for each in found for kind in each["error_kinds"]})
    return {
        "runs": len(runs),
        "loads": loads,
        "startup_s": _spread_of(Spread.of(run["startup_s"] for run in runs)),
        "pss_mb": _spread_of(Spread.of(run["memory"]["pss_mb"] for run in runs)),
        "rss_mb": _spread_of(Spread.of(run["memory"]["rss_mb"] for run in runs)),
    }


def _ratios(rounds: list[Part], name: str, mine: str) -> dict[str, Any]:
    """This project's figures over the contender's, each the median of the rounds' ratios."""
    values: dict[str, Callable[[Run], float | None]] = {
        f"throughput_{each['connections']}": _throughput_at(each["connections"])
        for each in rounds[0]["runs"][0]["loads"]
    }
    values["p50_32"] = lambda run: load(run, AT)["p50_ms"]
    values["p99_32"] = lambda run: load(run, AT)["p99_ms"]
    values["startup"] = lambda run: run["startup_s"]
    values["pss"] = lambda run: run["memory"]["pss_mb"]
    return {
        key: _spread_of(Spread.of(_beside(part, name, value, mine) for part in rounds)) for key, value in values.items()
    }


def _throughput_at(concurrency: int) -> Callable[[Run], float]:
    return lambda run: float(load(run, concurrency)["throughput"])


def _limit(rounds: list[Part], mine: str) -> dict[str, Any]:
    limits = [part["limit"][mine] for part in rounds]
    kinds = limits[0]["throughput"]
    return {
        "precision": limits[0].get("precision"),
        "throughput": {
            kind: {size: _spread_of(Spread.of(each["throughput"][kind][size] for each in limits)) for size in sizes}
            for kind, sizes in kinds.items()
        },
        "best": {kind: _spread_of(Spread.of(best(part, kind, mine) for part in rounds)) for kind in kinds},
        "one_image_ms": _spread_of(Spread.of(each["one_image_ms"] for each in limits)),
    }


def _spread_of(spread: Spread | None) -> dict[str, float] | None:
    return asdict(spread) if spread else None
