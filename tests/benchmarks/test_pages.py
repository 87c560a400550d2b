"""A page for each processor, and all of them side by side, on made-up records; and the checkout's own pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pages, processors, records, side_by_side, tables
from benchmarks.places import CHECKOUT, ROOM
from benchmarks.records import Records
from tests.benchmarks.test_door import one_round as door_round
from tests.benchmarks.test_door import summarised as door_summarised
from tests.benchmarks.test_figures import one_round, summarised

XEON = {
    "processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    "instruction_sets": ["amx_bf16", "avx512f", "avx2"],
}
SIMULATED = "int8 against bfloat16, the forward pass in batches of 16: as it is"
EPYC = {"processor": "AMD EPYC 7B13", "instruction_sets": ["avx2"]}


def on(machine: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return found | {"machine": found["machine"] | machine}


def isa_record() -> dict[str, Any]:
    took = {"forward": {size: {"median": 4, "least": 4, "most": 4} for size in ("1", "16", "32")}}
    took |= {"request": took["forward"]}
    of_set = {"default": "float32", "precisions": {"float32": took}}
    goal = {"what": SIMULATED, "figure": {"median": 1.5, "least": 1.5, "most": 1.5}, "bound": 1.3}
    about = {"date": "2026-01-01", "machine": XEON | {"torch": "2"}, "weights": "untrained", "round_count": 1}
    return about | {"sets": {"AVX-512": of_set}, "goals": [goal | {"at_least": True, "met": True}]}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Everything was measured on the Xeon, but only the front door on the EPYC."""
    for machine in (XEON, EPYC):
        each = Records(processors.folder_of(machine, tmp_path))
        each.write(records.DOOR, on(machine, door_summarised(door_round())))
        if machine is XEON:
            each.write(records.SUMMARY, on(machine, summarised(one_round())))
            each.write(records.ISA, isa_record())
    return tmp_path


@pytest.mark.parametrize(
    ("processor", "sets", "folder"),
    [
        ("AMD EPYC", ["avx512_bf16", "avx512_vnni", "avx512f", "avx2"], "amd-epyc-avx512-bf16"),
        (XEON["processor"], XEON["instruction_sets"], "intel-xeon-platinum-8481c-cpu-2-70ghz-amx"),
        ("Intel(R) Xeon(R) CPU @ 2.80GHz", ["avx512_vnni", "avx512f", "avx2"], "intel-xeon-cpu-2-80ghz-avx512-vnni"),
        ("aarch64", ["sve", "bf16", "i8mm", "asimddp", "asimd"], "aarch64-arm-bf16"),
        ("aarch64", ["asimddp", "asimd"], "aarch64-arm"),
        ("../x", [], "x-unknown"),
        ("?", ["avx2"], "unknown-avx2"),
    ],
)
def test_results_lie_by_the_processor_and_what_it_can(
    processor: str, sets: list[str], folder: str, tmp_path: Path
) -> None:
    """A virtual machine hides the name: two with the same hidden name may be of different kinds."""
    machine = {"processor": processor, "instruction_sets": sets}
    assert processors.folder_of(machine, tmp_path) == tmp_path / folder


@pytest.mark.parametrize(
    ("told", "name", "sets"),
    [
        ("model name\t: P\nflags\t\t: fpu avx2 avx512f amx_bf16\n", "P", ["amx_bf16", "avx512f", "avx2"]),
        ("Features\t: fp asimd bf16 i8mm\n", None, ["bf16", "i8mm", "asimd"]),
        ("", None, []),
    ],
)
def test_what_a_processor_can_is_what_linux_tells(
    told: str, name: str | None, sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(told)
    monkeypatch.setattr(processors, "CPU_INFO", file)
    assert processors.instruction_sets() == sets
    assert processors.name() == name or (name is None and processors.name())


def test_a_page_has_what_was_measured_and_no_empty_section(results: Path) -> None:
    epyc, xeon = (pages.page(each) for each in records.every(results))
    assert epyc.startswith("# AMD EPYC 7B13, AVX2\n\nAVX2: such as AMD Rome")
    assert [line for line in epyc.splitlines() if line.startswith("#")][1:] == ["## What the front door costs"]
    assert "## Targets" in xeon
    assert "![p50 and p99 at 32 clients](latency.png)" in xeon
    assert "## Scaling out" in xeon  # its price is that of a machine with AMX
    assert "<!--" not in epyc + xeon


def test_a_reader_finds_his_own(results: Path) -> None:
    found = side_by_side.of_benchmarks(records.every(results))
    page = "[Intel Xeon Platinum 8481C CPU @ 2.70GHz, AMX](results/intel-xeon-platinum-8481c-cpu-2-70ghz-amx/README.md)"
    assert (
        f"| AMX | Intel Sapphire Rapids, Emerald Rapids, Granite Rapids | c3, c4, n4, h3, z3 | {page} |"
        in found["processors"]
    )
    assert "| n2, c2, m3 | – |" in found["processors"]
    assert "| n1 | [simulated](results/intel-xeon-platinum" in found["processors"]  # only AVX-512
    assert f"| {SIMULATED} | 1.50, ≥ 1.3: met |" in found["targets"]
    assert f"| photographs a second, 32 clients | {page} |" in found["fast"]
    assert "| **this project, int8** | 300 |" in found["fast"]
    assert "| TorchServe, stock | 20 (10.0×, 15.0×) |" in found["fast"]
    assert "| the same work as this project in-process, without HTTP | 250 |" in found["fast"]


def test_pages_are_written_between_the_markers_and_twice_the_same(
    results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    room, checkout = (tmp_path_factory.mktemp(name) for name in ("room", "checkout"))
    for there, copy in ((ROOM, room), (CHECKOUT, checkout)):
        (copy / "README.md").write_text((there / "README.md").read_text())
    pages.write(results, room, checkout)
    once = [(folder / "README.md").read_text() for folder in (room, checkout)]
    assert all("AMX" in text for text in once)
    pages.write(results, room, checkout)
    assert [(folder / "README.md").read_text() for folder in (room, checkout)] == once


def test_a_readme_without_a_marker_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing to fill\n")
    with pytest.raises(ValueError, match="expected the markers"):
        tables.fill_in({"targets": ""}, readme)


def test_the_pages_of_the_checkout_say_what_the_results_say() -> None:
    """python -m benchmarks charts"""
    found = records.every()
    assert found
    for each in found:
        assert (each.folder / pages.PAGE).read_text() == pages.page(each)
    for folder, expected in (
        (ROOM, side_by_side.of_benchmarks(found)),
        (CHECKOUT, side_by_side.of_the_project(found)),
    ):
        readme = (folder / "README.md").read_text()
        for name, table in expected.items():
            assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in readme


def test_every_missed_target_has_its_reason() -> None:
    """Written by hand in missed.yaml; none remains for a target that is met."""
    for each in records.every():
        missed = [target["what"] for target in each.targets() if target["met"] is False]
        assert sorted(each.reasons()) == sorted(missed), each.folder.name


def test_every_record_lies_in_the_folder_of_its_processor() -> None:
    for each in records.every():
        for file in each.folder.glob("*.json"):
            if machine := json.loads(file.read_text()).get("machine"):
                assert processors.folder_of(machine) == each.folder
