"""The arithmetic between what was measured and what is said, on rounds that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts, tables
from benchmarks.contenders import COMMANDS, CONTENDERS, OURS, THIS, top_1
from benchmarks.figures import Spread, Target, beside, summary
from benchmarks.measurement import in_turn
from benchmarks.places import ROOM
from benchmarks.weights import Prepared
from pipeline.shared.ports import Ports

CONCURRENCIES = (1, 8, 32, 128)


def run(name: str, throughput: float, errors: int = 0) -> dict[str, Any]:
    loads = [
        {
            "connections": concurrency,
            "throughput": throughput,
            "p50_ms": 1000 * concurrency / throughput,
            "p99_ms": 1500 * concurrency / throughput,
            "own_cpu_ms_per_request": 0.1,
            "requests": 100,
            "errors": errors,
            "error_kinds": {"status 503": errors} if errors else {},
        }
        for concurrency in CONCURRENCIES
    ]
    found = {"name": name, "startup_s": 600 / throughput, "loads": loads, "memory": {"pss_mb": 400, "rss_mb": 700}}
    if name == OURS:
        found |= {"large": {"throughput": 9}, "many": [{"throughput": 1}, {"throughput": 4}]}
        found |= {"singles": {"throughput": 160}}
    return found


def one_round(ours: float = 200, stock: float = 20) -> dict[str, Any]:
    speeds = {contender.name: 50.0 for contender in CONTENDERS} | {"torchserve_stock": stock, OURS: ours}
    runs = [run(contender.name, speeds[contender.name]) for contender in (*in_turn(CONTENDERS), THIS)]
    limit = {"throughput": {"small": {"1": 100, "8": 250, "16": 240}, "large": {"1": 10}}, "one_image_ms": 4}
    return {"runs": runs, "limit": limit, "floor": {"jvm": 0.5, "front_end": 1.5, "import_torch": 1.5}}


def summarised(*rounds: dict[str, Any]) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "processor": "P",
        "instruction_sets": [],
        "cores": 2,
        "memory_gb": 8,
        "python": "3.11",
        "torch": "2",
        "torchserve": "0.12",
    }
    images = {"500x375": {"images": 24, "smallest": 40_000, "median": 60_000, "largest": 80_000}}
    about = {"date": "2026-01-01", "seconds": 600, "machine": machine, "weights": "untrained", "images": images}
    about |= {"load_s": 3, "warm_up_s": 0.5}
    return summary({"rounds": list(rounds)}) | about | {"round_count": len(rounds)}


def target(found: dict[str, Any], start: str) -> dict[str, Any]:
    chosen: dict[str, Any] = next(each for each in found["targets"] if each["what"].startswith(start))
    return chosen


def test_every_peer_runs_beside_this_project() -> None:
    for count in range(len(CONTENDERS) + 1):
        runs = [{"name": contender.name} for contender in in_turn(CONTENDERS[:count])]
        assert [each["name"] for each in runs if each["name"] != OURS] == [each.name for each in CONTENDERS[:count]]
        runs.append({"name": OURS})
        for contender in CONTENDERS[:count]:
            pair = beside({"runs": runs}, contender.name)
            assert pair is not None
            assert [each["name"] for each in pair] == [contender.name, OURS]


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is half as fast in the second round: that changes no ratio."""
    found = summarised(one_round(200, 20), one_round(100, 10))
    assert found["contenders"][OURS]["loads"]["32"]["throughput"] == {"median": 150, "least": 100, "most": 200}
    assert found["ratios"]["torchserve_stock"]["throughput_32"] == {"median": 10, "least": 10, "most": 10}
    assert target(found, "throughput against stock")["met"] is True


def test_targets_say_what_was_measured() -> None:
    found = summarised(one_round())
    figures = {each["what"]: (each["figure"]["median"], each["met"]) for each in found["targets"]}
    assert figures == {
        "throughput against stock TorchServe with the KServe envelope": (10, True),
        "throughput against the best documented peer": (4, True),
        "throughput against the same work in LitServe": (4, True),
        "throughput against the in-process limit": (200 / 250, False),
        "p50 at concurrency 1 against the in-process time of one image with all cores": (5 / 4, True),
        "p99 at concurrency 32 against p50": (1.5, True),
        "throughput at concurrency 128 against the best at any concurrency": (1, True),
        "12-megapixel photographs against the in-process limit": (0.9, True),
        "start-up to first answer against JVM start (java -version) + import torch": (3 / 2, True),
        "the same, with the JVM's start counted until TorchServe without a model answers": (3 / 3, True),
        "start-up to first answer against stock": (3 / 30, True),
        "resident memory (PSS) of the whole server against stock with as many workers": (1, False),
        "images/s of 64 in one request against 64 requests": (64 * 4 / 160, True),
    }


def test_what_was_not_measured_is_not_met() -> None:
    part = one_round()
    part["runs"] = [each for each in part["runs"] if each["name"] == OURS][:1]
    found = summarised(part)
    assert target(found, "throughput against stock")["figure"] is None
    assert target(found, "throughput against stock")["met"] is None
    assert target(found, "12-megapixel")["met"] is True


def test_a_median_has_its_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2, 1, 3)
    assert Spread.of([]) is None
    assert Spread.of([1.0, None]) is None  # a median of what happened to be there would flatter


@pytest.mark.parametrize(("figure", "at_least", "met"), [(2, True, True), (1, True, False), (1, False, True)])
def test_a_bound_has_a_side(figure: float, at_least: bool, met: bool) -> None:
    assert Target("", Spread(figure, 0, 9), 1.5, at_least).met is met


def test_top_1_of_every_form_of_answer() -> None:
    classes = [{"classes": [{"label": "tabby"}, {"label": "lynx"}]}]
    assert top_1({"predictions": classes}) == top_1(classes) == "tabby"
    assert top_1({"predictions": [{"lynx": 0.1, "tabby": 0.8}]}) == "tabby"


def test_tables_say_what_was_measured() -> None:
    part = one_round()
    part["runs"][0] = run("torchserve_stock", 20, errors=7)
    found = tables.tables(summarised(part))
    assert (
        "| throughput against stock TorchServe with the KServe envelope | 10.00 (10.00–10.00) | ≥ 8 | met |"
        in found["targets"]
    )
    assert "| TorchServe, stock | 32 | 100 | 7 | status 503 |" in found["refusals"]


def test_charts_are_drawn(tmp_path: Path) -> None:
    for name, chart in charts.draw(summarised(one_round()), tmp_path).items():
        assert chart == tmp_path / f"{name}.png"
        assert chart.read_bytes().startswith(b"\x89PNG")


def test_every_peer_has_its_requirements() -> None:
    assert THIS not in CONTENDERS
    for contender in CONTENDERS:
        assert (ROOM / "peers" / (contender.environment or contender.name) / "requirements.txt").is_file()
        assert contender.name in COMMANDS


def test_stock_torchserve_is_measured_both_ways(tmp_path: Path) -> None:
    prepared = Prepared("untrained", tmp_path, tmp_path, tmp_path, tmp_path)
    ways = []
    for name in ("torchserve_stock", "torchserve_stock_1"):
        (tmp_path / name).mkdir()
        ways.append(COMMANDS[name](tmp_path / "bin" / "python", Ports.any_free(), prepared, 2, tmp_path / name)[1])
    as_it_comes, one_thread = ways
    assert "OMP_NUM_THREADS" not in as_it_comes
    assert one_thread["OMP_NUM_THREADS"] == "1"
