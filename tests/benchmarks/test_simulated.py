"""Fewer instructions than the processor has: the sets, the arithmetic, and one forward pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks import simulated, tables
from benchmarks.measurement import IMPORTABLE
from benchmarks.places import CHECKOUT
from benchmarks.simulated import AS_IT_IS, sets_of, summary

EPYC = {"processor": "AMD EPYC", "instruction_sets": ["avx512_bf16", "avx512_vnni", "avx512f", "avx2"], "torch": "2"}


def took(forward: float) -> dict[str, Any]:
    return {
        "precision": "p",
        "ms": {str(size): {"forward": forward, "request": forward + 2} for size in simulated.BATCHES},
    }


def one_round(int8: float = 3.0) -> dict[str, Any]:
    """Float32 takes 12 ms on AVX2 and 10 elsewhere; bfloat16 is not available there, and takes 6 without limits."""
    with_avx2 = {"float32": took(12), "bfloat16": {"refused": "no"}, "int8": took(6)}
    return {"AVX2": with_avx2, AS_IT_IS: {"float32": took(10), "bfloat16": took(6), "int8": took(int8)}}


@pytest.mark.parametrize(
    ("has", "titles", "defaults"),
    [
        (["avx2"], ["AVX2", AS_IT_IS], ["float32", "float32"]),
        (["avx512_vnni", "avx512f", "avx2"], ["AVX2", "AVX-512", "AVX-512 with VNNI", AS_IT_IS], ["float32"] * 4),
        (EPYC["instruction_sets"], ["AVX2", "AVX-512", "AVX-512 with VNNI", "AVX-512 with BF16 and VNNI", AS_IT_IS],
         ["float32", "float32", "float32", "bfloat16", "bfloat16"]),
        (["bf16", "i8mm", "asimd"], [AS_IT_IS], ["bfloat16"]),
    ],
)  # fmt: skip
def test_a_processor_is_held_to_less_than_it_has(has: list[str], titles: list[str], defaults: list[str]) -> None:
    assert [each.title for each in sets_of(has)] == titles
    assert [each.default for each in sets_of(has)] == defaults


def test_int8_is_compared_with_what_is_served_without_it() -> None:
    goals = {each["what"]: each for each in summary([one_round(), one_round(2.5), one_round()], EPYC)["goals"]}
    assert {what: (each["figure"]["median"], each["bound"], each["met"]) for what, each in goals.items()} == {
        "int8 against float32, the forward pass in batches of 16: AVX2, simulated": (2, 2, True),
        "int8 against bfloat16, the forward pass in batches of 16: as it is": (2, 1.6, True),
    }


def test_without_an_int8_archive_there_are_no_goals() -> None:
    part = one_round()
    for of_set in part.values():
        del of_set["int8"]
    assert summary([part], EPYC)["goals"] == []


def test_the_table_has_what_was_refused_too() -> None:
    about = {"date": "2026-01-01", "machine": EPYC, "weights": "untrained", "round_count": 1}
    table = tables.isa(about | summary([one_round()], EPYC), {})
    ms = "6.00 (6.00–6.00)"
    assert f"| as it is | **bfloat16** | {ms} | {ms} | {ms} | – | 8.00 (8.00–8.00) |" in table
    assert "| AVX2 | bfloat16 | – | – | – | – | – |" in table
    assert "| 2.00× | 8.00 (8.00–8.00) |" in table


@pytest.mark.slow
def test_torch_computes_with_no_more_than_it_may() -> None:
    command = [sys.executable, "-P", "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    for each in sets_of(["avx2"])[:1]:
        variables = os.environ | IMPORTABLE | {"ATEN_CPU_CAPABILITY": each.aten}
        done = subprocess.run(command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=True)
        assert done.stdout.strip() in ("AVX2", "DEFAULT")  # the latter: for processors without AVX2


def test_the_record_of_the_checkout_says_what_was_measured() -> None:
    from benchmarks import records

    for each in records.every():
        if found := each.read(records.ISA):
            again = json.loads(json.dumps(summary(found["rounds"], found["machine"])))
            assert again == {"sets": found["sets"], "goals": found["goals"]}
