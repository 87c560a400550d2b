"""From what was measured to what is said: medians with their spread, ratios within a round, targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.contenders import CONTENDERS, OURS

AT = 32  # the concurrency of the targets
ALONE, CROWD = 1, 128
STOCK = "torchserve_stock"
EQUAL = "litserve_equal"
DOCUMENTED = tuple(contender.name for contender in CONTENDERS if not contender.equal_work)

Run = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, their least and their most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """None where there are no values, or where one is missing."""
        found = list(values)
        known = [value for value in found if value is not None]
        if not known or len(known) < len(found):
            return None
        return cls(statistics.median(known), min(known), max(known))


@dataclass(frozen=True)
class Target:
    """what; the figure (None where it was not measured); the bound; whether the figure may not be below or above it."""

    what: str
    figure: Spread | None
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure.median >= self.bound if self.at_least else self.figure.median <= self.bound


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """All figures, as they are written to summary.json."""
    rounds = measured["rounds"]
    names = list(dict.fromkeys(run["name"] for run in rounds[0]["runs"]))
    return {
        "contenders": {name: _contender(rounds, name) for name in names},
        "ratios": {name: _ratios(rounds, name) for name in names if name != OURS},
        "limit": _limit(rounds),
        "large": _spread_of(Spread.of(large_throughput(part) for part in rounds)),
        "many": {key: _spread_of(Spread.of(pick(part) for part in rounds)) for key, pick in MANY.items()},
        "floor": {key: _spread_of(Spread.of(part["floor"][key] for part in rounds)) for key in rounds[0]["floor"]},
        "targets": [
            {
                "what": target.what,
                "figure": _spread_of(target.figure),
                "bound": target.bound,
                "at_least": target.at_least,
                "met": target.met,
            }
            for target in targets(rounds)
        ],
    }


def targets(rounds: list[dict[str, Any]]) -> list[Target]:
    """Each is the median of a ratio that was taken in every round."""

    def over_rounds(value: Callable[[dict[str, Any]], float | None]) -> Spread | None:
        return Spread.of(value(part) for part in rounds)

    def best_documented(part: dict[str, Any]) -> float | None:
        return min((ratio for name in DOCUMENTED if (ratio := _throughput_ratio(part, name)) is not None), default=None)

    return [
        Target(
            "throughput against stock TorchServe with the KServe envelope",
            over_rounds(lambda part: _throughput_ratio(part, STOCK)),
            8,
            True,
        ),
        Target("throughput against the best documented peer", over_rounds(best_documented), 4, True),
        Target(
            "throughput against the same work in LitServe",
            over_rounds(lambda part: _throughput_ratio(part, EQUAL)),
            1.2,
            True,
        ),
        Target(
            "throughput against the in-process limit",
            over_rounds(lambda part: _last(part, lambda run: load(run, AT)["throughput"]) / best(part, "small")),
            0.85,
            True,
        ),
        Target(
            "p50 at concurrency 1 against the in-process time of one image with all cores",
            over_rounds(
                lambda part: ratio(_last(part, lambda run: load(run, ALONE)["p50_ms"]), part["limit"]["one_image_ms"])
            ),
            1.3,
            False,
        ),
        Target(
            "p99 at concurrency 32 against p50",
            over_rounds(
                lambda part: _median_of_ours(part, lambda run: ratio(load(run, AT)["p99_ms"], load(run, AT)["p50_ms"]))
            ),
            2,
            False,
        ),
        Target(
            "throughput at concurrency 128 against the best at any concurrency",
            over_rounds(lambda part: _median_of_ours(part, _crowd_against_best)),
            0.95,
            True,
        ),
        Target(
            "12-megapixel photographs against the in-process limit",
            over_rounds(lambda part: ratio(large_throughput(part), best(part, "large"))),
            0.85,
            True,
        ),
        Target(
            "start-up to first answer against JVM start (java -version) + import torch",
            over_rounds(lambda part: _startup_against(part, "jvm")),
            1.5,
            False,
        ),
        Target(
            "the same, with the JVM's start counted until TorchServe without a model answers",
            over_rounds(lambda part: _startup_against(part, "front_end")),
            1.5,
            False,
        ),
        Target(
            "start-up to first answer against stock",
            over_rounds(lambda part: _beside(part, STOCK, lambda run: run["startup_s"])),
            0.5,
            False,
        ),
        Target(
            "resident memory (PSS) of the whole server against stock with as many workers",
            over_rounds(lambda part: _beside(part, STOCK, lambda run: run["memory"]["pss_mb"])),
            0.6,
            False,
        ),
        Target(
            "images/s of 64 in one request against 64 requests",
            over_rounds(lambda part: ratio(many_throughput(part, -1), singles_throughput(part))),
            1.2,
            True,
        ),
    ]


# --- One round --------------------------------------------------------------------------------------------------------


def beside(part: dict[str, Any], name: str) -> tuple[Run, Run] | None:
    """A contender's run, and the run of this project next to it; None where the contender was not measured."""
    runs = part["runs"]
    for place, run in enumerate(runs):
        if run["name"] == name:
            neighbours = runs[max(place - 1, 0) : place + 2]
            return run, next(other for other in neighbours if other["name"] == OURS)
    return None


def load(run: Run, concurrency: int) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in run["loads"] if each["connections"] == concurrency)
    return found


def best(part: dict[str, Any], kind: str) -> float:
    """Images/s in-process at the best batch size."""
    return float(max(part["limit"]["throughput"][kind].values()))


def ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other


def large_throughput(part: dict[str, Any]) -> float:
    return float(_last(part, lambda run: run["large"]["throughput"]))


def many_throughput(part: dict[str, Any], which: int) -> float:
    """Images/s of requests with 64 images each: at the least (0) or the highest (-1) concurrency measured."""
    return float(64 * _last(part, lambda run: run["many"][which]["throughput"]))


def singles_throughput(part: dict[str, Any]) -> float:
    return float(_last(part, lambda run: run["singles"]["throughput"]))


MANY: dict[str, Callable[[dict[str, Any]], float]] = {
    "64 in one request, one client": lambda part: many_throughput(part, 0),
    "64 in one request, four clients": lambda part: many_throughput(part, -1),
    "64 requests at a time": singles_throughput,
}


def _ours(part: dict[str, Any]) -> list[Run]:
    return [run for run in part["runs"] if run["name"] == OURS]


def _median_of_ours(part: dict[str, Any], value: Callable[[Run], Any]) -> float | None:
    spread = Spread.of(value(run) for run in _ours(part))
    return spread.median if spread else None


def _last(part: dict[str, Any], value: Callable[[Run], Any]) -> Any:
    """Of this project's run next to the limit."""
    return value(_ours(part)[-1])


def _throughput_ratio(part: dict[str, Any], name: str) -> float | None:
    return _beside(part, name, lambda run: load(run, AT)["throughput"])


def _beside(part: dict[str, Any], name: str, value: Callable[[Run], float | None]) -> float | None:
    """This project's value over a contender's."""
    pair = beside(part, name)
    return ratio(value(pair[1]), value(pair[0])) if pair else None


def _crowd_against_best(run: Run) -> float | None:
    return ratio(load(run, CROWD)["throughput"], max(each["throughput"] for each in run["loads"]))


def _startup_against(part: dict[str, Any], start: str) -> float | None:
    return ratio(_last(part, lambda run: run["startup_s"]), part["floor"][start] + part["floor"]["import_torch"])


# --- All rounds -------------------------------------------------------------------------------------------------------


def _contender(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
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


def _ratios(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """This project's figures over the contender's, each the median of the rounds' ratios."""
    values: dict[str, Callable[[Run], float | None]] = {
        f"throughput_{each['connections']}": _throughput_at(each["connections"])
        for each in rounds[0]["runs"][0]["loads"]
    }
    values["p50_32"] = lambda run: load(run, AT)["p50_ms"]
    values["p99_32"] = lambda run: load(run, AT)["p99_ms"]
    values["startup"] = lambda run: run["startup_s"]
    values["pss"] = lambda run: run["memory"]["pss_mb"]
    return {key: _spread_of(Spread.of(_beside(part, name, value) for part in rounds)) for key, value in values.items()}


def _throughput_at(concurrency: int) -> Callable[[Run], float]:
    return lambda run: float(load(run, concurrency)["throughput"])


def _limit(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = rounds[0]["limit"]["throughput"]
    return {
        "throughput": {
            kind: {
                size: _spread_of(Spread.of(part["limit"]["throughput"][kind][size] for part in rounds))
                for size in sizes
            }
            for kind, sizes in kinds.items()
        },
        "best": {kind: _spread_of(Spread.of(best(part, kind) for part in rounds)) for kind in kinds},
        "one_image_ms": _spread_of(Spread.of(part["limit"]["one_image_ms"] for part in rounds)),
    }


def _spread_of(spread: Spread | None) -> dict[str, float] | None:
    return asdict(spread) if spread else None
