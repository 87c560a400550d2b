"""A body → the JSON in it. What makes JSON slow, or large in memory, is counted before it is read."""

from __future__ import annotations

import json
import re

from vision.errors import MalformedBody, MalformedField, RequestError, TooLarge
from vision.image.source import NOT_BASE64
from vision.image.text import kind_of_text
from vision.protocol.numbers import Overflow, find_overflow

EXPECTED_OBJECT = 'expected a JSON object {"instances": […]}'
NUMBERS = 'expected objects such as {"b64": "…"}; a list of numbers is none'
V2 = 'this is of KServe v2, and this model answers v1: {"instances": [{"b64": "…"}]}'
# Behind which bytes may come.
BINARY_V2 = re.compile(rb'\s{0,9}\{\s{0,9}(?:"id"\s?:\s?"[^"]{0,99}",\s{0,9})?"inputs"\s?:')
MAX_VALUES = 10_000  # of lists and objects in a body; a body that is full of them takes seconds, and hundreds of MB
MAX_SIGNS = 200_000  # that are looked at to find the one that is too many


def load_json(body: bytes | bytearray) -> object:
    """Raises RequestError: 400 for what is not JSON, or numbers where base64 belongs; 413 for too many values."""
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads does it
        if _has_more_values(text, MAX_VALUES) and (overflow := find_overflow(text, MAX_VALUES, MAX_SIGNS)):
            raise _too_many_values(overflow)
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = "empty" if not body.strip() else f"not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        if (kind := kind_of_text(body)) and kind != "JSON":
            problem = f"{kind} alone is not JSON; {EXPECTED_OBJECT}"
    except UnicodeDecodeError:
        problem = "not JSON (not UTF-8); an image itself needs Content-Type: image/*"
    except RecursionError:
        problem = "not JSON that can be read (nested too deeply)"
    except ValueError:
        problem = "not JSON that can be read (a number is too long)"
    if BINARY_V2.match(body):
        raise MalformedField("inputs", V2)
    raise MalformedBody(problem)


def _has_more_values(text: str, most: int) -> bool:
    """By the signs with which they begin, which base64 has not. (str.count is ten times slower where there are few.)"""
    for sign in "[{,":
        at = text.find(sign)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(sign, at + 1)
    return False


def _too_many_values(overflow: Overflow) -> RequestError:
    """Who sends numbers should hear that base64 is expected; who sends many instances, that they are many."""
    if not overflow.among_numbers:
        return TooLarge("body", MAX_VALUES, "values")
    root, index, field, nested = (*overflow.path, None, None, None, None)[:4]
    if root == "inputs":
        return MalformedField("inputs", V2)
    if root == "parameters":
        return MalformedField("parameters", "expected an object")
    if root != "instances":
        return MalformedBody(f"{EXPECTED_OBJECT}, with base64 text; a list of numbers is none")
    if not isinstance(index, int) or len(overflow.path) == 2:
        return MalformedField("instances", NUMBERS)
    place = f"instances[{index}]"
    if field in ("b64", "data", "image", "image_bytes"):
        place += f".{field}"
        if field in ("image", "image_bytes") and nested == "b64":
            place += ".b64"
    return MalformedField(place, NOT_BASE64)
