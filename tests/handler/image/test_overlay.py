"""A map of numbers as a picture that people can read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vision.image.overlay import grey, overlay

HEAT = np.zeros((7, 7), dtype=np.float32)
HEAT[1, 5] = 1
AT, ELSEWHERE = (48, 176), (176, 48)  # row, column: the centre of that square, and a point far from it


def opened(file: bytes, kind: str) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == kind
        return np.asarray(image).astype(int)


@pytest.fixture
def picture() -> np.ndarray:
    ramp = np.linspace(40, 200, 224).astype(np.uint8)
    return np.stack([np.tile(ramp, (224, 1))] * 3, axis=2)


def test_the_hot_part_is_coloured_and_the_rest_is_the_picture(picture: np.ndarray) -> None:
    shown = opened(overlay(picture, HEAT), "JPEG")
    assert shown.shape == (224, 224, 3)
    moved = np.abs(shown - picture).max(axis=2)
    assert moved[AT] > 40
    assert moved[ELSEWHERE] < 6


def test_the_hottest_is_the_lightest() -> None:
    """On black, so that only the heat shows: it gets steadily lighter from cold to hot."""
    ramp = np.tile(np.linspace(0, 1, 14, dtype=np.float32), (14, 1))
    line = opened(overlay(np.zeros((224, 224, 3), dtype=np.uint8), ramp), "JPEG")[112, ::16] @ [0.299, 0.587, 0.114]
    assert (np.diff(line) > -1).all()
    assert line[-1] > line[0] + 100


def test_colours_are_heat_and_nothing_else() -> None:
    parrot = np.zeros((224, 224, 3), dtype=np.uint8)
    parrot[:, :, 0] = 200
    shown = opened(overlay(parrot, HEAT), "JPEG")
    assert np.ptp(shown[ELSEWHERE]) < 6
    assert np.abs(shown[ELSEWHERE] - 0.299 * 200).max() < 6
    assert np.ptp(shown[AT]) > 40


def test_a_flat_map_leaves_the_picture(picture: np.ndarray) -> None:
    shown = opened(overlay(picture, np.zeros((7, 7), dtype=np.float32)), "JPEG")
    assert np.abs(shown - picture).max() < 6


def test_grey_is_a_png_from_black_to_white() -> None:
    shown = opened(grey(HEAT, 224), "PNG")
    assert shown.shape == (224, 224)
    assert shown[AT] > 200
    assert shown[ELSEWHERE] == 0


def test_a_photograph_takes_some_kilobytes(photographs: list[object]) -> None:
    with Image.open(str(photographs[0])) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224)))
    assert len(overlay(pixels, HEAT)) < 20_000
