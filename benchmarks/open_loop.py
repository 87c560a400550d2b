"""How long an answer takes when requests arrive at a fixed average rate, a share of what the server can answer.

The capacity is what closed loops measure just before on the same server, and each rate is a share of it. Which share
comes first changes from round to round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.contenders import Contender, url
from benchmarks.figures import AT, CROWD, Spread
from benchmarks.groups import answer_of
from benchmarks.limit import usable_cores
from benchmarks.measurement import ANSWER_TIMEOUT_S, IMPORTABLE, Probe, machine, module, put_load
from benchmarks.places import CHECKOUT, PHOTOGRAPHS
from benchmarks.weights import Prepared
from pipeline.serving.torchserve import has_envoy
from pipeline.shared.ports import Ports

SHARES = (0.5, 0.8, 0.9, 1.1)
FIRST_WARM_UP_S, WARM_UP_S = 5.0, 1.0  # the JVM compiles most hot code
KEYS = ("rate", "throughput", "p50_ms", "p95_ms", "p99_ms", "late_p99_ms")

Say = Callable[[str], None]


def measure(
    contenders: Sequence[Contender],
    prepared: Prepared,
    rounds: int,
    seconds: float,
    even: bool,
    say: Say,
    done: Callable[[], None],
) -> dict[str, Any]:
    """All measurements and the figures. done: called after each contender of each round."""
    pythons = {contender.name: contender.python(say) for contender in contenders}
    began, found = time.monotonic(), []
    for number in range(rounds):
        part = {}
        for contender in contenders:
            part[contender.name] = _run(contender, prepared, pythons[contender.name], number, seconds, even, say)
            done()
        found.append(part)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - began,
        "machine": machine(usable_cores()),
        "front_door": has_envoy(),
        "weights": prepared.origin,
        "images": {pictures.SMALL.name: pictures.sizes(pictures.SMALL)},
        "load_s": seconds,
        "warm_up_s": WARM_UP_S,
        "arrivals": "even" if even else "Poisson",
        "rounds": found,
        "round_count": rounds,
        "contenders": summary(found),
    }


def order(number: int) -> tuple[float, ...]:
    """The shares of a round: upwards, downwards, upwards, …"""
    return SHARES if number % 2 == 0 else SHARES[::-1]


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Contender → its capacity, its latency in closed loops, and the figures for each share.

    not_answered: of all requests that were due, the share that was refused or failed.
    """
    return {
        name: {
            "capacity": _spread(part[name]["capacity"] for part in rounds),
            "closed": {key: _spread(part[name]["closed"][key] for part in rounds) for key in KEYS[1:3] + KEYS[4:5]},
            "shares": {str(share): _of_share(rounds, name, str(share)) for share in SHARES},
        }
        for name in rounds[0]
    }


def _of_share(rounds: list[dict[str, Any]], name: str, share: str) -> dict[str, Any]:
    loads = [part[name]["shares"][share] for part in rounds]
    return {
        **{key: _spread(load[key] for load in loads) for key in KEYS},
        "not_answered": _spread(1 - load["answered"] / load["due"] if load["due"] else None for load in loads),
        "error_kinds": sorted({kind for load in loads for kind in load["error_kinds"]}),
    }


def _spread(values: Any) -> dict[str, float] | None:
    spread = Spread.of(values)
    return asdict(spread) if spread else None


def _run(
    contender: Contender,
    prepared: Prepared,
    python: Path | None,
    number: int,
    seconds: float,
    even: bool,
    say: Say,
) -> dict[str, Any]:
    say(f"{contender.title}: starting")
    ports, cores = Ports.any_free(), len(usable_cores())
    address, bodies = url(ports), pictures.bodies(pictures.SMALL, contender.form)
    probe = Probe(ports.inference, pictures.body([PHOTOGRAPHS[0].read_bytes()], contender.form))
    with probe, contender.serve(ports, prepared, python, cores) as running:
        probe.wait(running.check_alive)
        say(f"{contender.title}: its capacity")
        closed = put_load(address, bodies, AT, seconds, FIRST_WARM_UP_S)
        crowd = put_load(address, bodies, CROWD, seconds, WARM_UP_S)
        capacity = max(load["throughput"] for load in (closed, crowd))
        shares = {}
        for share in order(number):
            say(f"{contender.title}: {share:.0%} of {capacity:.0f} requests/s")
            shares[str(share)] = _arrivals(address, bodies, share * capacity, seconds, even)
        return {"capacity": capacity, "closed": closed, "shares": shares}


def _arrivals(address: str, bodies: Path, rate: float, seconds: float, even: bool) -> dict[str, Any]:
    command = [*module("arrivals"), address, bodies, "--rate", rate, "--seconds", seconds, "--warm-up", WARM_UP_S]
    command += ["--even"] if even else []
    answer: dict[str, Any] = answer_of(command, CHECKOUT, IMPORTABLE, ANSWER_TIMEOUT_S + seconds)
    return answer
