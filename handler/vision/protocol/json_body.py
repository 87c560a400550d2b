"""A body → its JSON. Whatever makes JSON slow or large in memory is counted before parsing."""

from __future__ import annotations

import json
import re

from vision.errors import MalformedBody, MalformedField, RequestError, TooLarge
from vision.image.source import NOT_BASE64
from vision.image.text import kind_of_text
from vision.protocol.numbers import Overflow, find_overflow

HEAD_LENGTH = "Inference-Header-Content-Length"
EXPECTED_OBJECT = 'expected a JSON object {"instances": […]}'
NUMBERS = 'expected objects such as {"b64": "…"}, not a list of numbers'
# JSON that bytes may follow.
BINARY_V2 = re.compile(rb'\s{0,9}\{\s{0,9}(?:"id"\s?:\s?"[^"]{0,99}",\s{0,9})?"inputs"\s?:')
MAX_VALUES = 10_000  # in lists and objects; a body full of them takes seconds and hundreds of MB
MAX_SIGNS = 200_000  # examined when looking for the value that is one too many
# Numbers and lists of KServe v2's pixels: six pictures of 224 × 224. They take at most 0.4 s and 70 MB.
MAX_NUMBERS = 1_000_000


def of_v2(path: str = "/v2/models/NAME/infer") -> str:
    return f"this is a KServe v2 request: send it to {path}"


def load_json(body: bytes | bytearray, expected: str = EXPECTED_OBJECT, advice_for_v2: str | None = None) -> object:
    """Raises RequestError: 400 for invalid JSON, or numbers where base64 belongs; 413 for too many values.

    expected: what an error says is expected. advice_for_v2: the error for v2's JSON with bytes after it.
    """
    more_behind = False
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as in json.loads
        if _has_more_values(text, MAX_VALUES) and (overflow := find_overflow(text, MAX_VALUES, MAX_SIGNS)):
            _check_numbers(text, overflow, expected)
        return json.loads(text)
    except json.JSONDecodeError as error:
        more_behind = error.msg == "Extra data"
        problem = "empty" if not body.strip() else f"not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        if (kind := kind_of_text(body)) and kind != "JSON":
            problem = f"{kind} alone is not JSON; {expected}"
    except UnicodeDecodeError:
        more_behind = True
        problem = "not JSON (not UTF-8); to send an image, set Content-Type: image/*"
    except RecursionError:
        problem = "not readable JSON (nested too deeply)"
    except ValueError:
        problem = "not readable JSON (a number is too long)"
    if more_behind and advice_for_v2 and BINARY_V2.match(body):
        raise MalformedField("inputs", advice_for_v2)
    raise MalformedBody(problem)


def _has_more_values(text: str, most: int) -> bool:
    """Counts characters that begin a value; base64 has none of them. (str.count takes ten times as long if few.)"""
    for sign in "[{,":
        at = text.find(sign)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(sign, at + 1)
    return False


def _check_numbers(text: str, overflow: Overflow, expected: str) -> None:
    """Raises RequestError if there are too many values. Many numbers are allowed if almost all are pixels."""
    if not overflow.among_numbers or overflow.path[:1] != ["inputs"]:
        raise _too_many_values(overflow, expected)
    if sum(map(text.count, "[,")) > MAX_NUMBERS:
        raise TooLarge("inputs", MAX_NUMBERS, f"numbers: send pixels as bytes after the JSON ({HEAD_LENGTH})")
    if text.count("{") > MAX_VALUES or text.count('"') > 4 * MAX_VALUES:
        raise TooLarge("body", MAX_VALUES, "values")


def _too_many_values(overflow: Overflow, expected: str) -> RequestError:
    """Tells clients that sent numbers to send base64, and clients that sent many instances that there are too many."""
    if not overflow.among_numbers:
        return TooLarge("body", MAX_VALUES, "values")
    root, index, field, nested = (*overflow.path, None, None, None, None)[:4]
    if root == "parameters":
        return MalformedField("parameters", "expected an object")
    if root != "instances":
        return MalformedBody(f"{expected} with base64 text, not a list of numbers")
    if not isinstance(index, int) or len(overflow.path) == 2:
        return MalformedField("instances", NUMBERS)
    place = f"instances[{index}]"
    if field in ("b64", "data", "image", "image_bytes"):
        place += f".{field}"
        if field in ("image", "image_bytes") and nested == "b64":
            place += ".b64"
    return MalformedField(place, NOT_BASE64)
