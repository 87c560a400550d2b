"""How long a forward pass takes with fewer of the processor's instructions, as on processors that lack the others.

ONEDNN_MAX_CPU_ISA limits the instructions of oneDNN, which convolves and multiplies matrices, and ATEN_CPU_CAPABILITY
those of torch's own kernels: https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html. This shows
how precisions compare on other processors, not how fast those are: clock, caches and memory stay this one's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import BOUNDS, SAME_BATCH, Spread, Target, ratio
from benchmarks.groups import answer_of
from benchmarks.limit import usable_cores
from benchmarks.measurement import ANSWER_TIMEOUT_S, IMPORTABLE, machine, module
from benchmarks.places import CHECKOUT
from benchmarks.processors import kind_of
from benchmarks.weights import Prepared

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS = (FLOAT32, BFLOAT16, INT8)
BATCHES = (1, 16, 32)
OF_AVX2 = 2.0  # the target for int8 against float32 with only AVX2


@dataclass(frozen=True)
class Instructions:
    """title: in tables. needs: the instruction set that a processor must have to simulate these.

    default: the precision without int8, which is bfloat16 if the instructions multiply it.
    """

    title: str
    onednn: str
    aten: str
    needs: str
    default: str


AS_IT_IS = "as it is"
SETS = (
    Instructions("AVX2", "AVX2", "avx2", "avx2", FLOAT32),
    Instructions("AVX2 with VNNI", "AVX2_VNNI", "avx2", "avx_vnni", FLOAT32),
    Instructions("AVX-512", "AVX512_CORE", "avx512", "avx512f", FLOAT32),
    Instructions("AVX-512 with VNNI", "AVX512_CORE_VNNI", "avx512", "avx512_vnni", FLOAT32),
    Instructions("AVX-512 with BF16 and VNNI", "AVX512_CORE_BF16", "avx512", "avx512_bf16", BFLOAT16),
)

Say = Callable[[str], None]


def sets_of(instruction_sets: list[str]) -> list[Instructions]:
    """Those that a processor can simulate, and last its own without any limit."""
    default = BFLOAT16 if {"amx_bf16", "avx512_bf16", "bf16"} & set(instruction_sets) else FLOAT32
    known = [each for each in SETS if each.needs in instruction_sets]
    return [*known, Instructions(AS_IT_IS, "", "", "", default)]


def steps(rounds: int) -> int:
    return rounds * len(sets_of(machine([])["instruction_sets"])) * len(PRECISIONS)


def measure(prepared: Prepared, rounds: int, seconds: float, say: Say, done: Callable[[], None]) -> dict[str, Any]:
    """All measurements and the figures. done: called after each precision of each set.

    prepared: without its int8 archive, int8 is not measured. Raises PipelineError if a process fails.
    """
    about, began = machine(usable_cores()), time.monotonic()
    contents = prepared.int8.contents if prepared.int8 else prepared.contents
    precisions = PRECISIONS if prepared.int8 else PRECISIONS[:2]
    found: list[dict[str, Any]] = []
    for _ in range(rounds):
        part: dict[str, Any] = {}
        for each in sets_of(about["instruction_sets"]):
            part[each.title] = {}
            for precision in precisions:
                say(f"{each.title}: {precision}")
                command = [*module("isa"), "--contents", contents, "--precision", precision]
                command += ["--batches", ",".join(map(str, BATCHES)), "--seconds", seconds]
                limits = {"ONEDNN_MAX_CPU_ISA": each.onednn, "ATEN_CPU_CAPABILITY": each.aten} if each.onednn else {}
                variables = IMPORTABLE | limits | {"OMP_NUM_THREADS": "1"}
                part[each.title][precision] = answer_of(command, CHECKOUT, variables, ANSWER_TIMEOUT_S)
                done()
        found.append(part)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - began,
        "machine": about,
        "weights": prepared.origin,
        "seconds_each": seconds,
        "rounds": found,
        "round_count": rounds,
        **summary(found, about),
    }


def summary(rounds: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """`sets`: for each, its default, and for each precision the ms of each batch size (None: refused); `goals`."""
    sets = [each for each in sets_of(about["instruction_sets"]) if each.title in rounds[0]]
    return {
        "sets": {
            each.title: {
                "default": each.default,
                "precisions": {
                    precision: _figures([part[each.title][precision] for part in rounds])
                    for precision in rounds[0][each.title]
                },
            }
            for each in sets
        },
        "goals": [goal.to_json() for goal in _goals(rounds, about, sets)],
    }


def _figures(found: list[dict[str, Any]]) -> dict[str, Any]:
    if "refused" in found[0]:
        return {"refused": found[0]["refused"]}
    return {
        what: {str(size): _spread(each["ms"][str(size)][what] for each in found) for size in BATCHES}
        for what in ("forward", "request")
    }


def _spread(values: Any) -> dict[str, float] | None:
    spread = Spread.of(values)
    return asdict(spread) if spread else None


def _goals(rounds: list[dict[str, Any]], about: dict[str, Any], sets: list[Instructions]) -> list[Target]:
    """For the forward pass only: how many times as fast int8 is as the default precision, in the same batches."""
    own = BOUNDS["amx" if kind_of(about).name == "amx" else "others"]["int8"]
    bounds = {AS_IT_IS: own, "AVX2": OF_AVX2}
    return [
        Target(
            f"int8 against {each.default}, the forward pass in batches of {SAME_BATCH}: {_said(each)}",
            Spread.of(quicker(part[each.title], each.default) for part in rounds),
            bounds[each.title],
            True,
        )
        for each in sets
        if each.title in bounds and INT8 in rounds[0][each.title]
    ]


def _said(each: Instructions) -> str:
    return each.title if each.title == AS_IT_IS else f"{each.title}, simulated"


def quicker(found: dict[str, Any], default: str) -> float | None:
    """How many times as fast int8 is; None if it or the default is not available."""
    times = [found[precision].get("ms", {}).get(str(SAME_BATCH), {}).get("forward") for precision in (default, INT8)]
    return ratio(*times)
