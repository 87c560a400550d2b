"""Figures from door.py's measurements: medians with their spread, ratios within a round, goals.

The load generator uses some of the server's cores, most of all while it is refused. Two goals for the overload concern
only the server, so the generator's share is removed: throughput is computed per remaining core, and time is reduced in
proportion to the remaining cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.door import ALONE, BUSY, OVERLOAD, WAYS
from benchmarks.figures import Spread, Target, load, ratio

Part = dict[str, Any]  # one round
Load = dict[str, Any]


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """`figures`: name → the median, minimum and maximum over the rounds (None: not measured); `goals`: the issue's."""
    rounds, cores = measured["rounds"], measured["machine"]["cores"]

    def over_rounds(value: Callable[[Part], float | None]) -> Spread | None:
        return Spread.of(value(part) for part in rounds)

    figures = {name: over_rounds(value) for name, value in values(cores).items()}
    goals = [
        Target(f"throughput with the door against without, {BUSY} clients", figures[f"ratio_{BUSY}"], 0.95, True),
        Target("Envoy, resident MB", figures["envoy_rss_mb"], 80, False),
        Target("start-up beyond that without the door, s", figures["startup_more_s"], 0.3, False),
        # Not about the door, but without it the others mean nothing.
        Target("overload: asked for, times the capacity", figures["overload_asked"], OVERLOAD - 1.5, True),
        Target("overload: answered against capacity, generator taken out", figures["overload_answered"], 0.9, True),
        Target("overload: p99 against p50 at capacity, generator taken out", figures["overload_p99"], 2, False),
        Target("overload: a refusal, ms (p50)", figures["refused_p50_ms"], 10, False),
        Target("overload: refusals with Retry-After, of 1", figures["refused_with_retry_after"], 1, True),
    ]
    return {
        "figures": {name: asdict(spread) if spread else None for name, spread in figures.items()},
        "goals": [goal.to_json() for goal in goals],
    }


def values(cores: int) -> dict[str, Callable[[Part], float | None]]:
    """Name → a function from a round to its figure."""
    found: dict[str, Callable[[Part], float | None]] = {}
    for clients in (BUSY, ALONE):
        found[f"ratio_{clients}"] = _ratio_at(clients)
        for way in WAYS:
            for key in ("throughput", "p50_ms", "p99_ms", "own_cpu_ms_per_request"):
                found[f"{way}_{clients}_{key}"] = _of(way, clients, key)
        found[f"envoy_{clients}_cpu_ms_per_request"] = _of("with", clients, "envoy_cpu_ms_per_request")
    found |= {f"startup_{way}_s": _startup(way) for way in WAYS}
    return found | {
        "startup_more_s": lambda part: part["with"]["startup_s"] - part["without"]["startup_s"],
        "envoy_rss_mb": lambda part: part["with"]["envoy_rss_mb"],
        "overload_rss_mb": lambda part: _overload(part)["envoy_rss_mb"],
        "overload_asked": lambda part: ratio(ended_per_s(_overload(part)), _capacity(part)["throughput"]),
        "overload_answered_raw": lambda part: ratio(_overload(part)["throughput"], _capacity(part)["throughput"]),
        "overload_answered": lambda part: answered(_overload(part), _capacity(part), cores),
        "overload_p99_ms": lambda part: _overload(part)["p99_ms"],
        "overload_p99_raw": lambda part: ratio(_overload(part)["p99_ms"], _capacity(part)["p50_ms"]),
        "overload_p99": lambda part: slowest(_overload(part), _capacity(part), cores),
        "refused_p50_ms": lambda part: _overload(part)["refused_p50_ms"],
        "refused_p99_ms": lambda part: _overload(part)["refused_p99_ms"],
        "refused_with_retry_after": lambda part: ratio(
            _overload(part)["refused_with_retry_after"], _overload(part)["refused"]
        ),
        "overload_own_cores": lambda part: generator_cores(_overload(part)),
    }


def ended_per_s(load: Load) -> float:
    """Requests per second, however they ended."""
    return float((load["requests"] + load["errors"]) / load["seconds"])


def generator_cores(load: Load) -> float:
    """How many cores the generator used."""
    return float((load["own_cpu_ms_per_request"] or 0) / 1000 * ended_per_s(load))


def answered(overload: Load, capacity: Load, cores: int) -> float | None:
    """Answers per second relative to the capacity, both per core that the generator left."""
    share = ratio(overload["throughput"], capacity["throughput"])
    return None if share is None else share / _left(overload, capacity, cores)


def slowest(overload: Load, capacity: Load, cores: int) -> float | None:
    """p99 of the answers relative to p50 at capacity, as if the generator had left as many cores in both."""
    times = ratio(overload["p99_ms"], capacity["p50_ms"])
    return None if times is None else times * _left(overload, capacity, cores)


def _left(overload: Load, capacity: Load, cores: int) -> float:
    """The cores that the generator left in the overload, relative to those that it left at capacity."""
    return (cores - generator_cores(overload)) / (cores - generator_cores(capacity))


def _of(way: str, clients: int, key: str) -> Callable[[Part], float | None]:
    def value(part: Part) -> float | None:
        found: float | None = load(part[way], clients)[key]
        return found

    return value


def _ratio_at(clients: int) -> Callable[[Part], float | None]:
    return lambda part: ratio(*(load(part[way], clients)["throughput"] for way in ("with", "without")))


def _startup(way: str) -> Callable[[Part], float | None]:
    return lambda part: float(part[way]["startup_s"])


def _overload(part: Part) -> Load:
    found: Load = part["with"]["overload"]
    return found


def _capacity(part: Part) -> Load:
    return load(part["with"], BUSY)


# --- What is said -----------------------------------------------------------------------------------------------------


def rows(figures: dict[str, Any]) -> list[tuple[str, Any, Any, int]]:
    """Name, figure with the door, figure without it, and how many digits are meaningful."""
    found: list[tuple[str, Any, Any, int]] = []
    for clients in (BUSY, ALONE):
        at = f"{clients} client{'s' if clients > 1 else ''}"
        for key, title, digits in (("throughput", "requests/s", 1), ("p50_ms", "p50, ms", 1), ("p99_ms", "p99, ms", 1)):
            found.append((f"{title}, {at}", *(figures[f"{way}_{clients}_{key}"] for way in WAYS), digits))
        found.append((f"requests/s against without, {at}", figures[f"ratio_{clients}"], None, 3))
        spent = figures[f"envoy_{clients}_cpu_ms_per_request"]
        found.append((f"Envoy's CPU, ms per request, {at}", spent, None, 2))
        own = (figures[f"{way}_{clients}_own_cpu_ms_per_request"] for way in WAYS)
        found.append((f"(the load generator's, {at})", *own, 2))
    found.append(("start-up, s", *(figures[f"startup_{way}_s"] for way in WAYS), 2))
    for name, title, digits in (
        ("envoy_rss_mb", "Envoy, resident MB", 0),
        ("overload_rss_mb", "Envoy, resident MB, after the overload", 0),
        ("overload_answered_raw", "overload: answered against capacity, as measured", 2),
        ("overload_p99_ms", "overload: p99 of what was answered, ms", 0),
        ("overload_p99_raw", "overload: p99 against p50 at capacity, as measured", 2),
        ("overload_own_cores", "overload: cores that the load generator took", 2),
        ("refused_p99_ms", "overload: a refusal, ms (p99)", 1),
    ):
        found.append((title, figures[name], None, digits))
    return found
