"""What counts as the same answer, and what an archive records of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.artefact.proof import BFLOAT16, FLOAT32, Proof, _compare

LOGITS = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32) * 3


def test_equal_answers_pass_and_what_is_added_to_all_classes_alike_is_nothing() -> None:
    for precision in (FLOAT32, BFLOAT16):
        for actual in (LOGITS, LOGITS + np.float32(2)):
            found = _compare(LOGITS, actual, precision)
            assert found.passed
            assert (found.same, found.moved < 1e-6) == (6, True)


@pytest.mark.parametrize(
    "actual",
    [
        LOGITS[:, ::-1],
        LOGITS * 1.01,
        LOGITS + np.eye(6, 5, dtype=np.float32) * 0.01,
        np.where(np.eye(6, 5, dtype=bool), np.nan, LOGITS),
        None,
    ],
    ids=["other classes", "a scale", "a class", "not finite", "no answer"],
)
def test_others_do_not(actual: np.ndarray | None) -> None:
    assert not _compare(LOGITS, actual, FLOAT32).passed


def test_bfloat16_may_differ_by_its_rounding_and_no_more() -> None:
    noise = np.random.default_rng(1).standard_normal(LOGITS.shape).astype(np.float32)
    assert _compare(LOGITS, LOGITS + noise * 0.01, BFLOAT16).passed
    assert not _compare(LOGITS, LOGITS + noise * 0.3, BFLOAT16).passed


def test_a_network_that_is_sure_of_one_class_is_judged_by_the_others_too() -> None:
    """Its probabilities are 1 and 0, whatever the other logits are."""
    sure = LOGITS + np.eye(1, 5, dtype=np.float32) * 100
    other = sure + np.eye(1, 5, 2, dtype=np.float32) * 5
    found = _compare(sure, other, FLOAT32)
    assert found.moved < 1e-6
    assert not found.passed


def test_so_is_one_that_is_sure_of_nothing() -> None:
    assert not _compare(LOGITS * 1e-5, LOGITS[:, ::-1] * 1e-5, FLOAT32).passed


def test_where_two_classes_are_as_good_as_equal_either_may_come_first() -> None:
    tied = np.zeros((2, 3), np.float32)
    tied[:, 0] = 10
    tied[:, 1] = 10 + np.float32(1e-5)
    turned = tied[:, [1, 0, 2]]
    assert _compare(tied, turned, FLOAT32).passed


def test_one_class_has_one_answer() -> None:
    assert _compare(LOGITS[:, :1], LOGITS[:, :1], FLOAT32).passed


def test_an_archive_keeps_verdicts_and_figures_where_they_are_beyond_the_bounds() -> None:
    """Other figures depend on the processor: the same inputs would make another archive."""
    one, other = (
        Proof(6, _compare(LOGITS, LOGITS + np.float32(d), FLOAT32), _compare(LOGITS, LOGITS + np.float32(d), BFLOAT16))
        for d in (0, 3)
    )
    assert one.to_json() == other.to_json()
    assert json.loads(one.to_json())["bfloat16"]["passed"] is True
    failed = Proof(6, _compare(LOGITS, LOGITS, FLOAT32), _compare(LOGITS, LOGITS[:, ::-1], BFLOAT16))
    said = json.loads(failed.to_json())
    assert said["float32"]["passed"] is True
    assert said["bfloat16"]["passed"] is False
    assert said["bfloat16"]["moved"] > 0.1
    assert str(failed).endswith(", so it is served only in float32")
