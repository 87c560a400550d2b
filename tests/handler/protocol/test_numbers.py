"""A list of numbers where base64 belongs, anywhere in a body, is reported as such, not as too many values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vision.errors import RequestError
from vision.protocol.json_body import MAX_SIGNS, MAX_VALUES
from vision.protocol.numbers import find_overflow
from vision.protocol.v1 import parse_body
from vision.worker.settings import Limits

BYTES = list(range(256)) * 50
PIXELS = [[[0.5, 1, -2e-3]] * 224] * 224
BUFFER = {"type": "Buffer", "data": BYTES}  # Node's
TYPED_ARRAY = {str(index): value for index, value in enumerate(BYTES)}  # JavaScript's Uint8Array
GOOD = {"b64": "QUJD" * 1000}
NO_BASE64 = 'expected base64 text (a list of numbers, or Node\'s {"type": "Buffer"}, is none)'
NO_OBJECTS = 'instances: expected objects such as {"b64": "…"}, not a list of numbers'
NO_BODY = 'body: expected a JSON object {"instances": […]} with base64 text, not a list of numbers'
V2 = "inputs: this is a KServe v2 request: send it to /v2/models/NAME/infer"


def refusal(body: bytes, limits: Limits) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        parse_body(body, "application/json", limits)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    ("instances", "place"),
    [
        ([{"b64": BYTES}], "instances[0].b64"),
        ([{"b64": BUFFER}], "instances[0].b64"),
        ([{"b64": TYPED_ARRAY}], "instances[0].b64"),
        ([{"b64": [str(byte) for byte in BYTES]}], "instances[0].b64"),
        ([{"b64": [float("nan")] * 20_000}], "instances[0].b64"),
        ([{"b64": [BUFFER]}], "instances[0].b64"),
        ([{"data": [[BYTES]]}], "instances[0].data"),
        ([GOOD, {"data": BUFFER}], "instances[1].data"),
        ([GOOD, GOOD, {"image": {"b64": BYTES}}], "instances[2].image.b64"),
        ([{"image": BUFFER}], "instances[0].image"),
        ([{"image": {"b64": TYPED_ARRAY}}], "instances[0].image.b64"),
        ([{"image_bytes": BYTES}], "instances[0].image_bytes"),
        ([{"image_bytes": {"b64": BUFFER}}], "instances[0].image_bytes.b64"),
        ([PIXELS], "instances[0]"),
        ([[PIXELS]], "instances[0]"),
        ([BUFFER], "instances[0].data"),
        ([TYPED_ARRAY], "instances[0]"),
        ([GOOD, {"b64": PIXELS}], "instances[1].b64"),
        ([{"size": [224, 224, 3], "b64": PIXELS}], "instances[0].b64"),
        ([{"\\": '"[{', "b64": BYTES}], "instances[0].b64"),
        ([{"pixels": PIXELS}], "instances[0]"),
        ([{"url": BYTES}], "instances[0]"),
        *(
            ([{"b64": [[{"r": 1, "g": 2, "b": 3}] * width] * 200}], "instances[0].b64")  # each may be one too many
            for width in (98, 99, 100, 101, 102, 103)
        ),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_it_is_told_with_its_place(instances: list[Any], place: str, indent: int | None, limits: Limits) -> None:
    body = json.dumps({"parameters": {"top_k": 1}, "instances": instances}, indent=indent).encode()
    assert refusal(body, limits) == (400, f"{place}: {NO_BASE64}")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"instances": BYTES}, NO_OBJECTS),
        ({"instances": [0.5] * 100}, NO_OBJECTS),  # few enough to parse
        ({"instances": [[0, 1, 2]] * 100}, NO_OBJECTS),
        ({"instances": BUFFER}, NO_OBJECTS),
        ({"instances": TYPED_ARRAY}, NO_OBJECTS),
        ({"instances": {"b64": BYTES}}, NO_OBJECTS),
        (BYTES, NO_BODY),
        (PIXELS, NO_BODY),
        (BUFFER, NO_BODY),
        (TYPED_ARRAY, NO_BODY),
        ({"b64": BYTES}, NO_BODY),
        ({"image": BUFFER}, NO_BODY),
        ({"instances": [GOOD], "pixels": PIXELS}, NO_BODY),
        ({"instances": [GOOD], "parameters": BYTES}, "parameters: expected an object"),
        ({"instances": [GOOD], "parameters": {"top_k": PIXELS}}, "parameters: expected an object"),
        ({"inputs": [{"name": "x", "shape": [1, 3, 224, 224], "datatype": "FP32", "data": PIXELS}]}, V2),
        ({"id": "1", "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["QUJD"]}]}, V2),
        ({"inputs": [{"b64": "QUJD"}]}, V2),
    ],
)
def test_it_is_told_wherever_it_stands(body: Any, sentence: str, limits: Limits) -> None:
    assert refusal(json.dumps(body).encode(), limits) == (400, sentence)


@pytest.mark.parametrize("repeated", ["{}, ", "[], ", '{"b64": ""}, ', '"", ', '"QUJD", ', "[[", '{"a": ', "[{}], "])
def test_many_values_that_are_no_numbers_are_too_many(repeated: str, limits: Limits) -> None:
    body = '{"parameters": {"size": [1, 2, 3]}, "instances": [' + repeated * 20_000
    assert refusal(body.encode(), limits) == (413, "body: more than 10000 values")


def test_signs_in_texts_are_no_values(limits: Limits) -> None:
    numbers = ",".join(map(str, BYTES))  # String(new Uint8Array(…))
    body = json.dumps({"instances": [{"b64": numbers}, {"b64": "[{" * 9_000}]}).encode()
    assert len(parse_body(body, "application/json", limits).instances) == 2


@pytest.mark.parametrize("quoted", ['\\"', "\\", '\\\\"', "\\\n"])
def test_a_text_that_does_not_end_is_read_once(quoted: str, limits: Limits) -> None:
    """With `\\"`, 84 kB of it took 11 s, and each doubling four times as long: this many would take a day."""
    body = '{"instances": [{"' + quoted * 4_000_000 + "[1, 2, " + "[," * 10_001
    assert refusal(body.encode(), limits) == (413, "body: more than 10000 values")


@pytest.mark.parametrize("text", ["]" + "[" + "1, " * 20_000, "1, " * 20_000, "}" * 20_000, "{" + "]" * 20_000 + "1,"])
def test_what_makes_no_sense_ends_the_search(text: str) -> None:
    overflow = find_overflow(text, MAX_VALUES, MAX_SIGNS)
    assert overflow is None or not overflow.among_numbers


@pytest.mark.parametrize("before", ['"\\\\"', '"\\"["', '"]}"', '"' + "\\/" * 3_000 + '"'])
def test_what_is_in_a_text_moves_no_place(before: str) -> None:
    text = '{"other": ' + before + ', "instances": [{"b64": ' + before + '}, {"data": [' + "1, " * 20_000
    overflow = find_overflow(text, MAX_VALUES, MAX_SIGNS)
    assert overflow is not None
    assert overflow.among_numbers
    assert overflow.path[:3] == ["instances", 1, "data"]
