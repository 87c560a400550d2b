"""The quick ones of the faults, against the container's command; `make chaos` tries all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reliability.bad_input import faults
from reliability.cases import CASES, logged_span_s, overload_faults
from reliability.cgroups import Impossible
from reliability.clients import agree, probabilities
from reliability.servers import OURS, Servers
from reliability.table import soak_command

QUICK = ("all_workers_killed", "clients_vanish", "idle_connections", "log_full")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(OURS, tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_beyond_the_batch_in_flight(
    servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reliability.cases.WARM_UP_S", 0.5)
    monkeypatch.setattr("reliability.cases.STEADY_S", 1)
    try:
        figures = asyncio.run(CASES[name](servers))
    except Impossible as reason:
        pytest.skip(str(reason))
    # How long it takes depends on what else the machine does: that is for `make chaos`.
    assert not [fault for fault in figures["failed"] if not fault.startswith("no answer for")], figures


def test_a_wrong_answer_is_noticed() -> None:
    right = probabilities(b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.4}]}]}')
    assert agree(right, right)
    assert not agree({"tabby": 0.5}, right)
    assert not agree({"lynx": 0.4}, right)


FINE_OVERLOAD = {
    "outcomes": {"200": 2000, "503": 30000},
    "offered_per_s": 3500.0,
    "capacity_per_s": 480.0,
    "answered_per_s": 200.0,
    "latency_p99_s": 1.6,
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"outcomes": {"200": 2000}}, ["nothing was refused"]),
        ({"offered_per_s": 2000.0}, ["the clients asked for less than 5 times the capacity"]),
        ({"latency_p99_s": 4.0}, ["what was accepted took longer than 3.5 s (p99)"]),
    ],
)
def test_an_overload_that_was_none_or_was_not_refused_is_noticed(change: dict[str, object], told: list[str]) -> None:
    assert overload_faults({**FINE_OVERLOAD, **change}, held=232) == told


def test_a_clock_that_jumped_is_seen_in_the_log() -> None:
    ours = '{"time":"2026-11-22T20:51:28.841Z"}\n{"time": "%sT20:51:40Z"}\n'
    stock = "2026-11-22T20:51:28,841 [INFO ] main\n%sT20:51:40,000 [INFO ] main\n"
    for log in (ours, stock):
        assert logged_span_s(log % "2026-11-21") == 24 * 3600 - 12
        assert logged_span_s(log % "2026-11-22") == 12
    assert logged_span_s("no time at all") == 0


FINE_BAD_INPUT = {
    "cases": 3,
    "statuses": {"200": 1, "400": 2},
    "refusals_without_a_place": 0,
    "slowest_s": 0.5,
    "slowest": "png chunks",
    "beside_lost": 0,
    "workers_replaced": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"statuses": {"200": 1, "400": 1, "503": 1}},
        {"refusals_without_a_place": 1},
        {"slowest_s": 2.1},
        {"beside_lost": 1},
        {"workers_replaced": 1},
    ],
)
def test_bad_input_that_does_harm_is_noticed(change: dict[str, object]) -> None:
    assert faults(FINE_BAD_INPUT) == []
    assert len(faults({**FINE_BAD_INPUT, **change})) == 1


def test_the_page_says_how_a_soak_was_started() -> None:
    assert soak_command(OURS, 100_000) == "make soak SERVER=ours"
    assert soak_command("stock", 1500).endswith("python -P -m reliability.soak --server stock --requests 1500")


def test_the_page_has_every_marker() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reliability.md").read_text()
    for marker in ("faults-ours", "faults-stock", "soak-ours", "soak-stock", "bad-input", "attack-surface"):
        assert page.count(f"<!-- {marker} -->") == 1
