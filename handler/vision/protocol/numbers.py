"""Where oversized JSON has its values, so that clients that send pixels or bytes as numbers get a helpful error."""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGN = re.compile(r'["\[\]{},]')
SIGN_IN_TEXT = re.compile(r'["\\]')
# What may follow the character that is one too many: a number in a list (also as text, or null and the like); a list of
# numbers; {"0": 255, …, JavaScript's JSON for a Uint8Array; or a pixel, {"r": 255, ….
NUMBER = re.compile(r'[\s\[]{0,1000}"?(?:-?\.?[0-9]|NaN|-?Infinity|null|true|false)')
NUMBERED = re.compile(
    r'[\s\[{]{0,1000}"(?:[0-9]{1,9}|[rgba]|red|green|blue|alpha)"\s{0,99}:\s{0,99}-?[0-9]', re.IGNORECASE
)
LONGEST_KEY = 20


@dataclass(frozen=True)
class Overflow:
    """The value that is one too many.

    path: the index or key in each list or object around it, outermost first.
    among_numbers: whether it is in a list of numbers, or something equivalent.
    """

    path: list[int | str]
    among_numbers: bool


def find_overflow(text: str, most_values: int, most_signs: int) -> Overflow | None:
    """The first value beyond `most_values`; None if there is none, because the commas and brackets were inside strings.

    text: JSON, perhaps damaged. At damage, or after `most_signs`, the search ends as if the value there were one too
    many. Each character is examined once: a pattern for whole strings would start again at every quote of an
    unterminated one.
    """
    path: list[int | str] = []  # for each open list or object: the index, or its latest string
    at, text_began = 0, -1  # -1: not in a string
    values = 0
    for _ in range(most_signs):
        found = (SIGN if text_began < 0 else SIGN_IN_TEXT).search(text, at)
        if found is None:
            return None
        sign, at = found[0], found.end()
        if sign == "\\":
            at += 1  # skip the escaped character
        elif sign == '"' and text_began < 0:
            text_began = at
        elif sign == '"':
            if path and isinstance(path[-1], str):
                path[-1] = text[text_began : min(at - 1, text_began + LONGEST_KEY)]
            text_began = -1
        elif sign in "]}":
            if not path:
                break
            path.pop()
        else:
            values += 1
            if values > most_values:
                return Overflow(path, _among_numbers(text, at, sign, path))
            if sign in "[{":
                path.append(0 if sign == "[" else "")
            elif not path:
                break
            elif isinstance(path[-1], int):
                path[-1] += 1
    return Overflow(path, among_numbers=False)


def _among_numbers(text: str, at: int, sign: str, path: list[int | str]) -> bool:
    """at: after the character."""
    in_object = sign == "{" or (sign == "," and bool(path) and isinstance(path[-1], str))
    return NUMBERED.match(text, at) is not None or (not in_object and NUMBER.match(text, at) is not None)
