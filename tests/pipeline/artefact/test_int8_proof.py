"""What counts as close enough, and what an archive records of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefact.int8.photographs import Photograph
from pipeline.artefact.int8.proof import BOUNDS, Answer, Bounds, Fidelity, Int8Proof, compared, prove_int8
from pipeline.artefact.model import MODEL
from pipeline.artefact.program import Program
from pipeline.artefact.proof import Agreement, Proof
from pipeline.shared.errors import PipelineError

LOGITS = np.random.default_rng(0).standard_normal((200, 5)) * 3
GOOD, BAD = Fidelity(0.995, 0.005, 0.2), Fidelity(0.994, 0.001, 0.01)


def proof(exact: Fidelity = GOOD, served: Fidelity = GOOD) -> Int8Proof:
    return Int8Proof("all", 10, BOUNDS, exact, served, BAD, (Answer("ab" * 32, 3, 3), Answer("cd" * 32, 1, 2)))


def test_equal_answers_have_not_moved() -> None:
    found = compared(LOGITS, LOGITS + 2)
    assert found.same == 1
    assert found.moved < 1e-9


def test_what_moved_is_the_most_moved_probability_of_each() -> None:
    other = LOGITS.copy()
    other[0] = np.roll(LOGITS[0], 1)
    found = compared(LOGITS, other)
    assert found.same == 0.995
    assert found.on_average == found.moved / 200
    assert found.within(Bounds(0.995, found.on_average))
    assert not found.within(Bounds(0.996, 1))
    assert not found.within(Bounds(0, found.on_average * 0.99))


def test_a_machine_that_has_no_int8_is_told() -> None:
    """The reason in handler/vision/ask.py's form."""
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    said = np.array("model-config.yaml: handler.precision is int8: 8-bit layers need an x86-64 processor")
    empty, usual = Program(b"", {}), MODEL.preprocessing
    with pytest.raises(PipelineError) as refused:
        prove_int8(
            lambda _: LOGITS,
            empty,
            empty,
            usual,
            [Photograph(Path("a.jpg"), "ab" * 32)],
            lambda *_: {"pixels": pixels, "no int8": said},
            ("all", 10, BOUNDS),
        )
    expected = "an int8 network cannot be verified on this machine: 8-bit layers need an x86-64 processor"
    assert str(refused.value) == expected


def test_what_is_not_finite_is_no_answer() -> None:
    other = LOGITS.copy()
    other[3, 2] = np.nan
    assert not compared(LOGITS, other).within(Bounds(0, 0.999))


def test_both_what_is_exact_and_what_is_served_keep_the_bounds() -> None:
    assert proof().passed
    assert not proof(exact=BAD).passed
    assert not proof(served=BAD).passed
    assert proof(served=BAD).measured.startswith("99.4%")


def test_an_archive_keeps_both_precisions_answers_and_nothing_that_hangs_on_the_processor() -> None:
    agreed = Agreement(6, 0.0, 0.0, 0.0, True)
    one, other = (Proof(6, agreed, agreed, proof(served=served)) for served in (GOOD, Fidelity(1.0, 0.0, 0.0)))
    assert one.to_json() == other.to_json()
    said = json.loads(one.to_json())["int8"]
    assert said["answers"] == [
        {"sha256": "ab" * 32, "float": 3, "int8": 3},
        {"sha256": "cd" * 32, "float": 1, "int8": 2},
    ]
    assert said["photographs"] == {"ranges": 10, "proof": 2}
    assert (said["passed"], said["layers"], said["same"], said["on_average"]) == (True, "all", 0.995, 0.005)
    assert (said["at_least"], said["at_most"]) == ({"same": 0.995}, {"on_average": 0.005})
    assert "int8" not in json.loads(Proof(6, agreed, agreed).to_json())
