"""Where JSON that is too full has its values: who sends pixels, or bytes, as numbers should hear that, not a count."""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGN = re.compile(r'["\[\]{},]')
SIGN_IN_TEXT = re.compile(r'["\\]')
# What may follow the sign that is one too many: a number of a list, also in text or of another kind; a list of them; or
# {"0": 255, …, which JavaScript makes of a Uint8Array; or a pixel, {"r": 255, ….
NUMBER = re.compile(r'[\s\[]{0,1000}"?(?:-?\.?[0-9]|NaN|-?Infinity|null|true|false)')
NUMBERED = re.compile(
    r'[\s\[{]{0,1000}"(?:[0-9]{1,9}|[rgba]|red|green|blue|alpha)"\s{0,99}:\s{0,99}-?[0-9]', re.IGNORECASE
)
LONGEST_KEY = 20


@dataclass(frozen=True)
class Overflow:
    """The value that is one too many.

    path: of the lists and objects that it is in, the index, or the key; the outermost first.
    among_numbers: whether it is one of a list of numbers, or of what stands for such a list.
    """

    path: list[int | str]
    among_numbers: bool


def find_overflow(text: str, most_values: int, most_signs: int) -> Overflow | None:
    """The first value beyond so many; None where there is none, for each comma or bracket was in a text.

    text: JSON, perhaps damaged: what makes no sense ends the search as if the value there were one too many, and so
    does the last of `most_signs`. Each sign is looked at once: a pattern for whole texts would begin again at each
    quote in one that does not end.
    """
    path: list[int | str] = []  # of the open lists and objects: the index, or the latest text in it
    at, text_began = 0, -1  # -1: not in a text
    values = 0
    for _ in range(most_signs):
        found = (SIGN if text_began < 0 else SIGN_IN_TEXT).search(text, at)
        if found is None:
            return None
        sign, at = found[0], found.end()
        if sign == "\\":
            at += 1  # what it escapes
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
    """at: behind the sign."""
    in_object = sign == "{" or (sign == "," and bool(path) and isinstance(path[-1], str))
    return NUMBERED.match(text, at) is not None or (not in_object and NUMBER.match(text, at) is not None)
