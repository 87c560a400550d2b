"""What the door costs, worked out from what was measured."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.door import WITH, WITHOUT, figures, show


def run(throughput: float, startup_s: float, envoy_mb: float = 0) -> dict[str, Any]:
    load = {"throughput": throughput, "p50_ms": 5.0, "p99_ms": 9.0, "envoy_cpu_s": 0.1}
    return {"startup_s": startup_s, "envoy_mb": envoy_mb, "1": load, "32": load}


RUNS = {
    WITH: [run(96, 3.4, 70), run(95, 3.5, 77), run(90, 3.6, 72)],
    WITHOUT: [run(100, 3.2), run(100, 3.3), run(100, 3.4)],
}


def test_the_cost_is_of_neighbouring_runs() -> None:
    assert figures(RUNS) == pytest.approx(
        {"cost": 0.05, "least_cost": 0.04, "most_cost": 0.1, "envoy_mb": 77, "start_s": 0.2}
    )


def test_the_table_has_what_it_may_cost_beside_it() -> None:
    shown = io.StringIO()
    Console(file=shown, width=120).print(show(RUNS))
    assert "5.0% (4.0% to 10.0%)" in shown.getvalue()
    assert all(most in shown.getvalue() for most in ("at most 5%", "at most 80", "at most 0.3"))
