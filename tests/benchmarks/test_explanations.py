"""Which parts of a picture are shown to check its explanation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.explanations import FILE, TARGETS, best_quarter, block, shown, summary, variants
from benchmarks.places import ROOM


def test_the_best_quarter_is_the_largest_numbers() -> None:
    heat = np.arange(49, dtype=np.float32).reshape(7, 7)
    flags = best_quarter(heat)
    assert flags.sum() == 12
    assert heat[flags].min() == 37


def test_every_quarter_has_as_many_squares_and_the_rest_is_what_is_left() -> None:
    heat = np.random.default_rng(1).random((8, 8), dtype=np.float32)
    found = variants(heat, np.random.default_rng(0))
    for name in ("best", "random", "random block", "middle"):
        assert {int(flags.sum()) for flags in found[name]} == {16}
    for name in ("best", "random"):
        for flags, rest in zip(found[name], found[f"without {name}"], strict=True):
            assert not (flags & rest).any()
            assert (flags | rest).all()
    assert (found["middle"][0] == block(8, 2, 2)).all()


def test_a_square_is_shown_and_the_rest_has_the_colour() -> None:
    image = np.full((224, 224, 3), 200, dtype=np.uint8)
    flags = np.zeros((7, 7), dtype=bool)
    flags[1, 5] = True
    picture = shown(image, flags, np.array([1.0, 2.0, 3.0]))
    assert (picture[32:64, 160:192] == 200).all()
    picture[32:64, 160:192] = [1, 2, 3]
    assert (picture == [1, 2, 3]).all()


def test_a_summary_is_the_mean() -> None:
    assert summary([{"best": 0.5}, {"best": 0.7}]) == {"best": pytest.approx(0.6)}


def test_the_page_has_what_was_measured_and_it_meets_the_targets() -> None:
    found = json.loads(FILE.read_text())
    assert tables.explanations(found) in (ROOM / "README.md").read_text()
    way = found["ways"][0]
    assert way["photographs"] >= 50
    assert way["best"] / way["random"] >= TARGETS["best quarter against a random one"]
    assert way["without best"] <= TARGETS["left without the best quarter"]
