"""How many images a batch may have: limited by time, and by memory for their pixels."""

from __future__ import annotations

import pytest

from vision.errors import Busy, RequestError, TooLarge
from vision.protocol.request import Request, Verb, Wish
from vision.worker.pace import in_time, in_time_to_explain


def request(images: int) -> Request | RequestError:
    return Request([b""] * images, ["body"] * images, 5)


def taken(images: list[int], image_s: float, crop: int) -> list[type]:
    return [type(outcome) for outcome in in_time([request(count) for count in images], image_s, 120, crop)]


def test_a_fast_network_takes_any_batch() -> None:
    assert taken([64] * 16, 0.001, 224) == [Request] * 16


def test_a_slow_one_as_many_as_it_answers_in_time() -> None:
    assert taken([10, 7, 6, 17], 2.5, 224) == [Request, Busy, Request, TooLarge]
    assert taken([1, 1], 1000, 224) == [Request, Busy]


@pytest.mark.parametrize(("crop", "most"), [(384, 606), (518, 333), (600, 248)])
def test_a_large_crop_as_many_as_have_room(crop: int, most: int) -> None:
    """A one-pixel picture becomes as large as any other."""
    assert most * crop * crop * 3 <= 256 * 2**20 < (most + 1) * crop * crop * 3
    full, rest = divmod(most, 64)
    assert taken([64] * full + [rest, 1], 0.001, crop) == [Request] * full + [Request, Busy]


def test_what_was_refused_before_counts_for_nothing() -> None:
    refused = TooLarge("body", 1, "bytes")
    assert in_time([refused, request(16)], 2.5, 120, 224)[0] is refused
    assert isinstance(in_time([refused, request(16)], 2.5, 120, 224)[1], Request)


def explained(images: list[int], image_s: float, predicted: int = 0) -> list[type]:
    asked = [Request([b""] * count, ["body"] * count, 5, Verb.EXPLAIN, Wish()) for count in images]
    return [type(each) for each in in_time_to_explain([request(predicted), *asked], image_s)][1:]


def test_explanations_take_a_second_of_a_batch() -> None:
    assert explained([4, 5, 3, 4, 1], 0.099) == [Request, Request, Busy, Busy, Request]
    assert explained([10], 0.099) == [Request]
    assert explained([11, 1], 0.099) == [TooLarge, Request]


def test_one_explanation_is_possible_however_slow() -> None:
    assert explained([1, 1, 2], 20) == [Request, Busy, TooLarge]


def test_predictions_count_for_nothing_there() -> None:
    assert explained([1], 20, predicted=64) == [Request]
    assert [type(each) for each in in_time_to_explain([request(64)] * 16, 20)] == [Request] * 16
