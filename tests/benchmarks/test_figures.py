"""The arithmetic from measurements to figures, on made-up rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts, tables
from benchmarks.contenders import COMMANDS, CONTENDERS, INT8, OURS, THIS, WITH_INT8, top_1
from benchmarks.figures import Spread, Target, beside, summary
from benchmarks.measurement import in_turn
from benchmarks.places import ROOM
from benchmarks.weights import Prepared
from pipeline.shared.ports import Ports

MISSED = {"int8 against the default precision: throughput": "too slow"}
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
    if name in (OURS, INT8):
        found |= {"large": {"throughput": 9}, "raw": {"throughput": 12}, "many": [{"throughput": 1}, {"throughput": 4}]}
        found |= {"singles": {"throughput": 160}}
    return found


def one_round(ours: float = 200, stock: float = 20, int8: float = 300) -> dict[str, Any]:
    speeds = {contender.name: 50.0 for contender in CONTENDERS} | {"torchserve_stock": stock, OURS: ours, INT8: int8}
    runs = [run(contender.name, speeds[contender.name]) for contender in (*in_turn(CONTENDERS), THIS, WITH_INT8)]
    limit = {"small": {"1": 100, "8": 250, "16": 240}, "large": {"1": 10}, "raw": {"1": 15}}
    limits = {
        OURS: {"throughput": limit, "one_image_ms": 4, "precision": "bfloat16"},
        INT8: {"throughput": limit | {"small": {"8": 400, "16": 360}}, "one_image_ms": 3, "precision": "int8"},
    }
    return {"runs": runs, "limit": limits, "floor": {"jvm": 0.5, "front_end": 1.5, "import_torch": 1.5}}


def without_int8(part: dict[str, Any]) -> dict[str, Any]:
    runs = [each for each in part["runs"] if each["name"] != INT8]
    return part | {"runs": runs, "limit": {OURS: part["limit"][OURS]}}


def summarised(*rounds: dict[str, Any], sets: tuple[str, ...] = ()) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "processor": "P",
        "instruction_sets": list(sets),
        "cores": 2,
        "memory_gb": 8,
        "python": "3.11",
        "torch": "2",
        "torchserve": "0.12",
    }
    images = {"500x375": {"images": 24, "smallest": 40_000, "median": 60_000, "largest": 80_000}}
    about = {"date": "2026-01-01", "seconds": 600, "machine": machine, "weights": "untrained", "images": images}
    about |= {"load_s": 3, "warm_up_s": 0.5}
    return summary({"rounds": list(rounds), "machine": machine}) | about | {"round_count": len(rounds)}


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
            places = [next(place for place, each in enumerate(runs) if each is chosen) for chosen in pair]
            assert abs(places[0] - places[1]) == 1


def test_int8_runs_beside_litserve_and_this_project() -> None:
    runs = [contender.name for contender in in_turn(CONTENDERS)]
    place = runs.index(INT8)
    assert runs[place - 1 : place + 2] == ["litserve", INT8, OURS]


def test_of_several_runs_the_nearest_is_taken() -> None:
    runs = [{"name": name, "place": place} for place, name in enumerate(["a", INT8, OURS, "b", "c", OURS, INT8])]
    for name, nearest in (("a", 1), ("b", 1), ("c", 6)):
        pair = beside({"runs": runs}, name, INT8)
        assert pair is not None
        assert pair[1]["place"] == nearest
    assert beside({"runs": runs}, "d", INT8) is None


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is half as fast in the second round, which changes no ratio."""
    found = summarised(one_round(200, 20), one_round(100, 10))
    assert found["contenders"][OURS]["loads"]["32"]["throughput"] == {"median": 150, "least": 100, "most": 200}
    assert found["ratios"][OURS]["torchserve_stock"]["throughput_32"] == {"median": 10, "least": 10, "most": 10}
    assert target(found, "throughput against stock")["met"] is True


def test_targets_say_what_was_measured() -> None:
    found = summarised(one_round())
    figures = {each["what"]: (each["figure"]["median"], each["met"]) for each in found["targets"]}
    assert figures == {
        "throughput against stock TorchServe with the KServe envelope": (10, True),
        "throughput against LitServe as documented": (4, True),
        "throughput against LitServe as documented, int8": (6, True),
        "throughput against the same work in LitServe": (4, True),
        "throughput against the in-process limit of the same precision": (200 / 250, False),
        "throughput against the in-process limit of the same precision, int8": (300 / 400, False),
        "int8 against the default precision: throughput": (1.5, False),
        "int8 against the default precision: in-process, in batches of 16": (1.5, False),
        "p50 at concurrency 1 against the in-process time of one image with all cores": (5 / 4, True),
        "p99 at concurrency 32 against p50": (1.5, True),
        "throughput at concurrency 128 against the best at any concurrency": (1, True),
        "12-megapixel photographs against the in-process limit": (0.9, True),
        "12-megapixel photographs against the in-process limit, int8": (0.9, True),
        "12-megapixel photographs, sent as they are, against the in-process limit": (0.8, False),
        "12-megapixel photographs, sent as they are, against the in-process limit, int8": (0.8, False),
        "start-up to first answer against JVM start (java -version) + import torch": (3 / 2, True),
        "the same, with the JVM's start counted until TorchServe without a model answers": (3 / 3, True),
        "start-up to first answer against stock": (3 / 30, True),
        "start-up to first answer against stock, int8": (2 / 30, True),
        "resident memory (PSS) of the whole server against stock with as many workers": (1, False),
        "resident memory (PSS) of the whole server against stock with as many workers, int8": (1, False),
        "images/s of 64 in one request against 64 requests": (64 * 4 / 160, True),
    }


def test_bounds_depend_on_the_processor() -> None:
    for sets, bounds in ((("amx_bf16",), (4.5, 1.3, 0.6)), (("avx512_bf16",), (3.5, 1.6, 0.55))):
        found = summarised(one_round(), sets=sets)
        starts = ("throughput against LitServe as documented", "int8 against the default precision", "resident memory")
        assert tuple(target(found, start)["bound"] for start in starts) == bounds


def test_what_was_measured_without_int8_has_no_targets_of_it() -> None:
    found = summarised(without_int8(one_round()))
    assert not [each["what"] for each in found["targets"] if "int8" in each["what"]]
    assert list(found["limit"]) == [OURS]


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
    assert Spread.of([1.0, None]) is None  # a median of only the available rounds would flatter


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
    assert "| 12 megapixels, sent as they are | 15.0 (15.0–15.0) | – | – | 12.0 (12.0–12.0) |" in found["limit"]
    assert "| images/s, int8, in batches of | 1 | 8 | 16 | this project, int8 |" in found["limit"]
    assert "| TorchServe, stock | 32 | 100 | 7 | status 503 |" in found["refusals"]


def test_a_missed_target_has_its_reason() -> None:
    found = tables.targets(
        summarised(one_round())["targets"], {"p99 at concurrency 32 against p50": "it is met"} | MISSED
    )
    assert "| throughput against LitServe as documented | 4.00 (4.00–4.00) | ≥ 3.5 | met |  |" in found
    assert "| p99 at concurrency 32 against p50 | 1.50 (1.50–1.50) | ≤ 2 | met |  |" in found
    assert "| int8 against the default precision: throughput | 1.50 (1.50–1.50) | ≥ 1.6 | not met | too slow |" in found


def test_charts_are_drawn(tmp_path: Path) -> None:
    for name, chart in charts.draw(summarised(one_round()), tmp_path).items():
        assert chart == tmp_path / f"{name}.png"
        assert chart.read_bytes().startswith(b"\x89PNG")


def test_every_peer_has_its_requirements() -> None:
    assert THIS not in CONTENDERS
    for contender in (each for each in CONTENDERS if each.is_peer):
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
