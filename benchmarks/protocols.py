"""The cost of each protocol: the same photographs, sent to one server in each form in turn.

Which form comes first changes from round to round; ratios are taken within a round, against base64 in v1's JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.figures import Spread, Target
from benchmarks.limit import usable_cores
from benchmarks.measurement import machine, put_load
from benchmarks.weights import Prepared
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports

BASE, BINARY = "v1: base64 in JSON", "v2: bytes behind the JSON"
CLIENTS = {pictures.SMALL: 32, pictures.LARGE: 8}
FIRST_WARM_UP_S, WARM_UP_S = 5.0, 1.0  # the JVM compiles most hot code

Say = Callable[[str], None]
Ways = dict[str, tuple[str, Path]]  # name → the path to call, and a folder of bodies


def ways(kind: pictures.Kind) -> Ways:
    v1, v2 = f"/v1/models/{MODEL_NAME}:predict", f"/v2/models/{MODEL_NAME}/infer"
    return {
        BASE: (v1, pictures.bodies(kind)),
        "v1: the photograph itself": (v1, pictures.files(kind)[0].parent),
        "v2: base64 in JSON": (v2, pictures.v2_bodies(kind, binary=False)),
        BINARY: (v2, pictures.v2_bodies(kind, binary=True)),
    }


def measure(prepared: Prepared, rounds: int, seconds: float, say: Say, done: Callable[[], None]) -> dict[str, Any]:
    """All measurements and the figures. done: called after each round.

    Raises PipelineError if a request is not answered with 200.
    """
    asked, began = {kind: ways(kind) for kind in CLIENTS}, time.monotonic()
    found: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in CLIENTS}
    with TorchServe(prepared.served, MODEL_NAME, Ports.any_free()) as server:
        say("warming up")
        for kind, its_ways in asked.items():
            for path, bodies in its_ways.values():
                put_load(server.url + path, bodies, CLIENTS[kind], FIRST_WARM_UP_S, 0)
        for number in range(rounds):
            for kind, its_ways in asked.items():
                order = list(its_ways) if number % 2 == 0 else list(reversed(its_ways))
                loads = {way: _load(server, way, its_ways[way], CLIENTS[kind], seconds, say) for way in order}
                found[kind.name].append(loads)
            done()
    sizes = {
        kind.name: {way: median_bytes(bodies) for way, (_, bodies) in its_ways.items()}
        for kind, its_ways in asked.items()
    }
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - began,
        "machine": machine(usable_cores()),
        "weights": prepared.origin,
        "images": {kind.name: pictures.sizes(kind) for kind in CLIENTS},
        "load_s": seconds,
        "warm_up_s": WARM_UP_S,
        "rounds": found,
        "round_count": rounds,
        "kinds": {name: summary(found[name], sizes[name]) for name in found},
    }


def summary(rounds: list[dict[str, Any]], sizes: dict[str, float]) -> dict[str, Any]:
    """For each form: bytes, requests/s, CPU, p50, and ratios to the first; `goals`: the issue's.

    cpu_ratio: requests for the same processor time, relative to the first form. On a shared machine, it is more
    meaningful than requests/s.
    """
    figures = {way: _figures(rounds, way, sizes) for way in sizes}
    goals = [
        Target("bytes of v2's binary tensors against base64 in v1", figures[BINARY]["bytes_ratio"], 0.76, False),
        Target("their throughput against it", figures[BINARY]["ratio"], 1.05, True),
    ]
    return {
        "figures": {
            way: {name: asdict(spread) for name, spread in each.items() if spread} for way, each in figures.items()
        },
        "goals": [goal.to_json() for goal in goals],
    }


def _figures(rounds: list[dict[str, Any]], way: str, sizes: dict[str, float]) -> dict[str, Spread | None]:
    return {
        "bytes": Spread.of([sizes[way]]),
        "bytes_ratio": Spread.of([sizes[way] / sizes[BASE]]),
        "throughput": Spread.of(part[way]["throughput"] for part in rounds),
        "ratio": Spread.of(part[way]["throughput"] / part[BASE]["throughput"] for part in rounds),
        "cpu_ms": Spread.of(part[way]["cpu_ms"] for part in rounds),
        "cpu_ratio": Spread.of(part[BASE]["cpu_ms"] / part[way]["cpu_ms"] for part in rounds),
        "p50_ms": Spread.of(part[way]["p50_ms"] for part in rounds),
    }


def median_bytes(bodies: Path) -> float:
    return statistics.median(file.stat().st_size for file in bodies.iterdir())


def _load(
    server: TorchServe, way: str, asked: tuple[str, Path], clients: int, seconds: float, say: Say
) -> dict[str, Any]:
    """cpu_ms: the server's processor time per request, including the front door's."""
    say(way)
    path, bodies = asked
    before = _cpu_s(server)
    load = put_load(server.url + path, bodies, clients, seconds, WARM_UP_S)
    if load["errors"]:
        raise PipelineError(f"{way}: {clients} clients did not all get a 200: {load['error_kinds']}")
    return load | {"cpu_ms": 1000 * (_cpu_s(server) - before) / load["sent"]}


def _cpu_s(server: TorchServe) -> float:
    times = [process.cpu_times() for process in server.processes()]
    return float(sum(each.user + each.system for each in times))
