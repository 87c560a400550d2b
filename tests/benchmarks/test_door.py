"""The cost of the front door: the arithmetic and the table, on made-up rounds."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from benchmarks import door, records, tables
from benchmarks.door_figures import answered, generator_cores, rows, slowest, summary

MACHINE = {
    "processor": "P",
    "instruction_sets": ["avx2"],
    "cores": 2,
    "memory_gb": 8,
    "python": "3.11",
    "torch": "2",
    "torchserve": "0.12",
}


def load(clients: int, throughput: float, own: float = 0.0, refused: int = 0, **more: Any) -> dict[str, Any]:
    """Ten seconds. own: CPU ms of the generator for each request."""
    return {
        "connections": clients,
        "throughput": throughput,
        "requests": 10 * throughput,
        "seconds": 10,
        "errors": refused,
        "refused": refused,
        "refused_with_retry_after": refused,
        "refused_p50_ms": 4 if refused else None,
        "refused_p99_ms": 8 if refused else None,
        "p50_ms": 1000 * clients / throughput,
        "p99_ms": 1500 * clients / throughput,
        "own_cpu_ms_per_request": own,
        **more,
    }


def one_round(with_it: float = 196, without: float = 200, startup: float = 3.2, **overload: Any) -> dict[str, Any]:
    crowd = load(1000, 0.9 * with_it, refused=12_000) | {"p99_ms": 300, "envoy_rss_mb": 120} | overload
    return {
        "with": {
            "startup_s": startup,
            "loads": [load(32, with_it, envoy_cpu_ms_per_request=0.25), load(1, 50, envoy_cpu_ms_per_request=0.5)],
            "envoy_rss_mb": 77,
            "overload": crowd,
        },
        "without": {
            "startup_s": 3.0,
            "loads": [load(32, without, envoy_cpu_ms_per_request=None), load(1, 50, envoy_cpu_ms_per_request=None)],
        },
    }


def summarised(*rounds: dict[str, Any]) -> dict[str, Any]:
    about = {"date": "2026-01-01", "seconds": 600, "machine": MACHINE, "weights": "untrained", "load_s": 8}
    about |= {"images": {"500x375": {"images": 24, "smallest": 40_000, "median": 60_000, "largest": 80_000}}}
    about |= {"warm_up_s": 5.0, "rounds": list(rounds), "round_count": len(rounds)}
    return about | summary(about)


def goals(found: dict[str, Any]) -> dict[str, tuple[Any, bool | None]]:
    return {
        each["what"]: (each["figure"] and pytest.approx(each["figure"]["median"]), each["met"])
        for each in found["goals"]
    }


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is half as fast in the second round, which changes no ratio."""
    figures = summarised(one_round(190, 200), one_round(95, 100))["figures"]
    assert figures["ratio_32"] == {"median": 0.95, "least": 0.95, "most": 0.95}
    assert figures["with_32_throughput"] == {"median": 142.5, "least": 95, "most": 190}
    assert figures["without_32_throughput"] == {"median": 150, "least": 100, "most": 200}


def test_goals_say_what_was_measured() -> None:
    assert goals(summarised(one_round())) == {
        "throughput with the door against without, 32 clients": (0.98, True),
        "Envoy, resident MB": (77, True),
        "start-up beyond that without the door, s": (0.2, True),
        "overload: asked for, times the capacity": ((176.4 + 1200) / 196, True),
        "overload: answered against capacity, generator taken out": (0.9, True),
        "overload: p99 against p50 at capacity, generator taken out": (300 / (32_000 / 196), True),
        "overload: a refusal, ms (p50)": (4, True),
        "overload: refusals with Retry-After, of 1": (1, True),
    }


@pytest.mark.parametrize(
    ("part", "missed"),
    [
        (one_round(with_it=188), "throughput with the door against without, 32 clients"),
        (one_round(startup=3.4), "start-up beyond that without the door, s"),
        (one_round(throughput=150), "overload: answered against capacity, generator taken out"),
        (one_round(p99_ms=400), "overload: p99 against p50 at capacity, generator taken out"),
        (one_round(refused_p50_ms=11), "overload: a refusal, ms (p50)"),
        (one_round(refused_with_retry_after=11_999), "overload: refusals with Retry-After, of 1"),
        (one_round(errors=5_000), "overload: asked for, times the capacity"),
    ],
)
def test_a_goal_can_be_missed(part: dict[str, Any], missed: str) -> None:
    assert [what for what, (_, met) in goals(summarised(part)).items() if not met] == [missed]


def test_without_a_refusal_nothing_is_said_of_refusals() -> None:
    calm = one_round(refused=0, refused_with_retry_after=0, refused_p50_ms=None, refused_p99_ms=None)
    found = goals(summarised(calm))
    assert found["overload: a refusal, ms (p50)"] == (None, None)
    assert found["overload: refusals with Retry-After, of 1"] == (None, None)


def test_what_the_generator_took_is_taken_out() -> None:
    """Nothing at capacity, half of one of two cores in the overload: a quarter is missing, and nobody's fault."""
    capacity, overload = load(32, 200), load(1000, 150, own=0.5, refused=8_500)
    assert generator_cores(capacity) == 0
    assert generator_cores(overload) == pytest.approx(0.5)
    assert answered(overload, capacity, cores=2) == pytest.approx(1)
    overload["p99_ms"] = 400
    assert slowest(overload, capacity, cores=2) == pytest.approx(400 * 0.75 / 160)


def test_neither_way_is_always_the_first() -> None:
    assert [door.order(number) for number in range(3)] == [
        ["with", "without"],
        ["without", "with"],
        ["with", "without"],
    ]


def test_the_crowd_asks_for_a_multiple_of_the_capacity() -> None:
    assert door.CROWD / door.pause(capacity=200) == pytest.approx(door.OVERLOAD * 200)


def test_the_table_has_both_ways() -> None:
    figures = summarised(one_round(), one_round(180))["figures"]
    console = Console(file=StringIO(), width=120)
    console.print(tables.door_table(figures))
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert len(printed.splitlines()) == len(rows(figures)) + 4  # its frame and its head
    line = next(line for line in printed.splitlines() if "requests/s, 32 clients" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "requests/s, 32 clients",
        "188.0 (180.0–196.0)",
        "200.0 (200.0–200.0)",
    ]


def test_the_page_has_the_figures_and_the_goals() -> None:
    found = tables.door(summarised(one_round(188)))
    goal = "| throughput with the door against without, 32 clients |"
    assert f"{goal} 0.94 (0.94–0.94) | ≥ 0.95 | not met |" in found
    assert found.startswith("2026-01-01, P, 2 cores, 8 GB;")


def test_results_say_what_was_measured() -> None:
    for each in records.every():
        if found := each.read(records.DOOR):
            assert summary(found) == {"figures": found["figures"], "goals": found["goals"]}
