"""Thousands of broken images: each gives pixels or a refusal, in bounded time and memory, with nothing in the log.

FUZZ_MUTANTS=100000 makes a long run of it; FUZZ_FIRST is the number that a failure has printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reliability import corpus

pytestmark = pytest.mark.slow

FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
MUTANTS = int(os.environ.get("FUZZ_MUTANTS", "20000"))
EACH = 2000  # per process


@pytest.mark.timeout(60 + MUTANTS // 20)
@pytest.mark.parametrize("first", range(FIRST, FIRST + MUTANTS, EACH))
def test_any_mutant(first: int) -> None:
    """In a separate process, which ends if a decoder crashes or takes too much memory."""
    command = [sys.executable, str(Path(corpus.__file__)), str(first), str(min(EACH, FIRST + MUTANTS - first))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr[-5000:]}"
    assert ended.stderr == ""
    outcomes = ended.stdout
    assert "pixels" in outcomes  # otherwise nothing reached a decoder
    assert "400" in outcomes
    assert "413" in outcomes


def test_a_number_gives_the_same_mutant_again() -> None:
    files = list(corpus.seeds().values())
    assert [corpus.mutant(number, files) for number in range(20)] == [
        corpus.mutant(number, list(corpus.seeds().values())) for number in range(20)
    ]


@pytest.mark.parametrize("name", corpus.seeds())
def test_a_seed_is_a_whole_image(name: str) -> None:
    refused = ("tiff group4", "bmp rle8", "bmp rle4")  # fax codes and run lengths: see guards/tiff.py and decoder.py
    expected = "400" if name in refused else "pixels"
    assert corpus.trial(corpus.seeds()[name]) == expected
