"""The results of `make classifiers`, and its page; tests/pipeline/artefact/test_families.py packs some networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.classifiers import page, results
from benchmarks.classifiers.measurement import Failed, _json
from pipeline.artefact import zoo

KNOWN = ["alexnet", "resnet18", "resnet34"]
ABOUT = {"family": "resnet", "date": "2026-01-01", "processor": "P", "torch": "2"}


def row(passed: bool = True) -> dict[str, Any]:
    served = {"start_s": 1.25, "memory_mb": 314, "alone_ms": 9.01, "same_bits": True}
    of_it = {
        "nodes": 49,
        "archive_bytes": 5_730_225,
        "packaging_s": 3.8,
        "float32": {"moved": 5e-07, "passed": True},
        "bfloat16": {"moved": 0.05, "passed": passed},
        "served_float32": served | {"together_ms": 8},
    }
    if passed:
        of_it["served_bfloat16"] = served | {"together_ms": 4, "same_bits": False}
    return ABOUT | {"crop": 224, "parameters": 11_700_000, "flop": 3_600_000_000, "1000": of_it, "5": of_it}


def test_the_page_is_that_of_the_results() -> None:
    """python -m benchmarks.classifiers page"""
    assert page.PAGE.read_text(encoding="utf-8") == page.text(results.read(), zoo.names())


def test_of_a_row_it_says_what_was_measured() -> None:
    text = page.text({"resnet18": row(), "own": row() | {"family": "own"}}, KNOWN)
    assert text.startswith("# Classifiers that can be packed\n\n**1 of torchvision's 3 ")
    assert "2 have not been measured yet; `make classifiers` continues with them: alexnet, resnet34." in text
    cells = ["224²", "11.7", "3.6", "250", "9.01 / 8", "9.01 / 4", "314 / 314", "1.2 / 1.2", "6", "4", "5e-07", "0.05"]
    for name in ("resnet18", "own"):
        assert f"| {name} | {' | '.join([*cells, 'yes / no', '49'])} |" in text


def test_what_is_served_in_float32_only_says_so() -> None:
    text = page.text({"resnet18": row(passed=False)}, KNOWN)
    assert "| 125 | 9.01 / 8 | – | 314 | 1.2 | 6 | 4 | 5e-07 | 0.05: float32 only | yes |" in text
    some = row() | {"5": row(passed=False)["5"]}
    assert "| 0.05: float32 only with 5 classes | yes / no |" in page.text({"resnet18": some}, KNOWN)


def test_what_could_not_be_packed_has_its_reason() -> None:
    text = page.text({"resnet18": row(), "resnet34": ABOUT | {"failed": "it is too deep"}}, KNOWN)
    assert text.endswith("## What could not be packed, and why\n\n- `resnet34`: it is too deep\n")
    assert "**1 of torchvision's 3 " in text


def test_a_run_is_taken_up_again(tmp_path: Path) -> None:
    file = tmp_path / "classifiers.json"
    assert results.read(file) == {}
    results.put({"b": {"date": "1"}, "a": {"date": "1"}}, file)
    results.put({"b": {"date": "2"}}, file)
    assert results.read(file) == {"a": {"date": "1"}, "b": {"date": "2"}}
    assert list(tmp_path.iterdir()) == [file]


def test_a_process_that_fails_tells_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"^it is too deep$"):
        _json([sys.executable, "-c", "exit('Traceback\\nit is too deep')"], tmp_path / "none", {})
    with pytest.raises(Failed, match=r"^ended with -9$"):
        _json([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path / "none", {})
