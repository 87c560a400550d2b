"""What the front door costs: the same server with Envoy before it and without, in turn, on small photographs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
from rich.table import Table

from benchmarks import pictures
from benchmarks.groups import answer_of
from benchmarks.measurement import IMPORTABLE, machine, module
from benchmarks.places import CHECKOUT
from benchmarks.weights import Prepared
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports

WITH, WITHOUT = "with the door", "without"
SETTINGS: dict[str, dict[str, str]] = {WITH: {}, WITHOUT: {"FRONT_DOOR": "none"}}
MANY, ONE = 32, 1
WARM_UP_S = 3
ANSWER_TIMEOUT_S = 120

# What it may cost (of throughput at 32 clients; MB resident; seconds at the start).
MOST_THROUGHPUT, MOST_MB, MOST_START_S = 0.05, 80, 0.3

Run = dict[str, Any]


def measure(prepared: Prepared, rounds: int, seconds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every round has both, and each goes first in every other round."""
    bodies = pictures.bodies(pictures.SMALL)
    runs: dict[str, list[Run]] = {WITH: [], WITHOUT: []}
    for number in range(rounds):
        for kind in list(runs) if number % 2 else list(runs)[::-1]:
            say(f"round {number + 1} of {rounds}: {kind}")
            began = time.perf_counter()
            with TorchServe(prepared.served, MODEL_NAME, Ports.any_free(), environment=SETTINGS[kind]) as server:
                run: Run = {"startup_s": time.perf_counter() - began}
                envoy = next((one for one in server.processes() if one.name() == "envoy"), None)
                for clients in (ONE, MANY):
                    before = _cpu_s(envoy)
                    command = [*module("load"), server.predict_url, bodies, "--connections", clients]
                    command += ["--seconds", seconds, "--warm-up", WARM_UP_S]
                    run[str(clients)] = answer_of(command, CHECKOUT, IMPORTABLE, ANSWER_TIMEOUT_S)
                    run[str(clients)]["envoy_cpu_s"] = _cpu_s(envoy) - before
                run["envoy_mb"] = envoy.memory_info().rss / 1e6 if envoy else 0
                runs[kind].append(run)
    cores = sorted(os.sched_getaffinity(0))
    found = {"runs": runs, "figures": figures(runs), "seconds": seconds}
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(cores), **found}


def figures(runs: dict[str, list[Run]]) -> dict[str, float]:
    """cost: the share of throughput at 32 clients that the door takes, round by round: median, least and most.

    envoy_mb: the most that it was resident. start_s: how much longer the start takes, of medians.
    """
    pairs = zip(runs[WITH], runs[WITHOUT], strict=True)
    costs = [1 - one[str(MANY)]["throughput"] / other[str(MANY)]["throughput"] for one, other in pairs]
    return {
        "cost": statistics.median(costs),
        "least_cost": min(costs),
        "most_cost": max(costs),
        "envoy_mb": max(run["envoy_mb"] for run in runs[WITH]),
        "start_s": _median(runs[WITH], "startup_s") - _median(runs[WITHOUT], "startup_s"),
    }


def show(runs: dict[str, list[Run]]) -> Table:
    """Each kind with its figures, and what the door costs beside what it may cost."""
    table = Table("", WITH, WITHOUT)
    rows = [(f"requests/s, {MANY} clients", (str(MANY), "throughput"))]
    for clients in (MANY, ONE):
        rows += [(f"{name}, {clients} clients, ms", (str(clients), f"{name}_ms")) for name in ("p50", "p99")]
    for what, keys in [*rows, ("start-up, s", ("startup_s",))]:
        table.add_row(what, *(f"{_median(runs[kind], *keys):.2f}" for kind in (WITH, WITHOUT)))
    found = figures(runs)
    table.add_section()
    spread = f"{found['cost']:.1%} ({found['least_cost']:.1%} to {found['most_cost']:.1%})"
    table.add_row("the door takes of the throughput", spread, f"at most {MOST_THROUGHPUT:.0%}")
    table.add_row("Envoy resident, MB", f"{found['envoy_mb']:.0f}", f"at most {MOST_MB}")
    table.add_row("start-up longer by, s", f"{found['start_s']:.2f}", f"at most {MOST_START_S}")
    return table


def _median(runs: list[Run], *keys: str) -> float:
    def value(run: Any) -> float:
        for key in keys:
            run = run[key]
        return float(run)

    return statistics.median(map(value, runs))


def _cpu_s(process: psutil.Process | None) -> float:
    return float(sum(process.cpu_times()[:2])) if process else 0.0
