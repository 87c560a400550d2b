"""The quick ones of the faults, against the container's command; `make chaos` tries all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from chaos.cases import CASES
from chaos.cgroups import Impossible
from chaos.clients import agree, probabilities
from chaos.servers import OURS, Servers

QUICK = ("all_workers_killed", "clients_vanish", "idle_connections", "log_full")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(OURS, tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_beyond_the_batch_in_flight(
    servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.cases.WARM_UP_S", 0.5)
    monkeypatch.setattr("chaos.cases.STEADY_S", 1)
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


def test_the_page_has_every_marker() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reliability.md").read_text()
    for marker in ("faults-ours", "faults-stock", "soak-ours", "soak-stock", "bad-input"):
        assert page.count(f"<!-- {marker} -->") == 1
