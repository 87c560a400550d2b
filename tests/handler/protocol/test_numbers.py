"""A list of numbers where base64 belongs: told as that, and not as a body with too many values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vision.errors import RequestError
from vision.protocol.numbers import place_of_numbers
from vision.protocol.v1 import MAX_VALUES, parse_body
from vision.worker.settings import Limits

BYTES = list(range(256)) * 50
PIXELS = [[[0.5, 1, -2e-3]] * 224] * 224
BUFFER = {"type": "Buffer", "data": BYTES}
GOOD = {"b64": "QUJD" * 1000}


@pytest.mark.parametrize(
    ("instances", "place"),
    [
        ([{"b64": BYTES}], "instances[0].b64"),
        ([{"b64": BUFFER}], "instances[0].b64"),
        ([GOOD, {"data": BUFFER}], "instances[1].data"),
        ([GOOD, GOOD, {"image": {"b64": BYTES}}], "instances[2].image.b64"),
        ([{"image_bytes": BYTES}], "instances[0].image_bytes"),
        ([PIXELS], "instances[0]"),
        ([GOOD, {"b64": PIXELS}], "instances[1].b64"),
        ([{"\\": '"[{', "b64": BYTES}], "instances[0].b64"),
        ([{"pixels": PIXELS}], "instances[0]"),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_it_is_told_with_its_place(instances: list[Any], place: str, indent: int | None, limits: Limits) -> None:
    body = json.dumps({"parameters": {"top_k": 1}, "instances": instances}, indent=indent).encode()
    with pytest.raises(RequestError) as caught:
        parse_body(body, "application/json", limits)
    assert caught.value.status == 400
    assert str(caught.value).startswith(f"{place}: expected base64 text (a list of numbers, or Node's ")


@pytest.mark.parametrize(
    "text",
    [
        '{"other": [' + "1, " * 20_000,
        '{"instances": [' + "1, " * 20_000,
        "[" * 20_000 + "1, " * 20,
        "[0, " * 20_000,
        "]" + "[" + "1, " * 20_000,
        '{"instances": [' + '{"b64": ""}, ' * 20_000 + "[" + "1, " * 20,
        '"' * 50_001 + "[" + "1, " * 20_000,
        '{"instances": [{"b64": "[1, 2, 3]',
    ],
)
def test_what_is_elsewhere_or_behind_too_much_has_no_place(text: str) -> None:
    assert place_of_numbers(text, MAX_VALUES) is None


@pytest.mark.parametrize("quoted", ['\\"', "\\", '\\\\"', "\\\n"])
def test_a_text_that_does_not_end_is_read_once(quoted: str, limits: Limits) -> None:
    """With `\\"`, 84 kB of it took 11 s, and each doubling four times as long: this many would take a day."""
    body = '{"instances": [{"' + quoted * 4_000_000 + "[1, 2, " + "[," * 10_001
    with pytest.raises(RequestError) as caught:
        parse_body(body.encode(), "application/json", limits)
    assert (caught.value.status, str(caught.value)) == (413, "body: more than 10000 values")


@pytest.mark.parametrize("before", ['"\\\\"', '"\\"["', '"]}"', '"' + "\\/" * 3_000 + '"'])
def test_what_is_in_a_text_moves_no_place(before: str) -> None:
    text = '{"other": ' + before + ', "instances": [{"b64": ' + before + '}, {"data": [1, 2, 3'
    assert place_of_numbers(text, MAX_VALUES) == "instances[1].data"
