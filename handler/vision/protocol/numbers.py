"""Where JSON that is full of numbers has them: who sends pixels, or bytes, as a list should hear that, not a count."""

from __future__ import annotations

import re

# A list that begins with two numbers: pixels have three.
RUN = re.compile(r"\[\s{0,99}(?:-?[0-9][0-9.eE+-]{0,40}\s{0,99},\s{0,99}){2}")
SIGN = re.compile(r'["\[\]{},]')
SIGN_IN_TEXT = re.compile(r'["\\]')
LONGEST_KEY = 20


def place_of_numbers(text: str, most_signs: int) -> str | None:
    """`instances[0].b64` for a list of numbers there, or in it; None for one elsewhere, or behind very much else.

    text: JSON, perhaps damaged. It is read to the first such list, and no further than that many signs.
    Each is looked at once: a pattern for whole texts would begin again at each quote in one that does not end.
    """
    start = _first_run(text, most_signs)
    if start is None:
        return None
    path: list[int | str] = []  # of the open lists and objects: the index, or the latest text in it
    at, text_began = 0, -1  # -1: not in a text
    for _ in range(most_signs):
        found = (SIGN if text_began < 0 else SIGN_IN_TEXT).search(text, at, start)
        if found is None:
            break
        sign, at = found[0], found.end()
        if sign == "\\":
            at += 1  # what it escapes
        elif sign == '"' and text_began < 0:
            text_began = at
        elif sign == '"':
            if path and isinstance(path[-1], str):
                path[-1] = text[text_began : min(at - 1, text_began + LONGEST_KEY)]
            text_began = -1
        elif sign in "[{":
            path.append(0 if sign == "[" else "")
        elif not path:
            return None
        elif sign in "]}":
            path.pop()
        elif isinstance(path[-1], int):
            path[-1] += 1
    else:
        return None
    if text_began >= 0:
        return None  # what looks like a list is in a text
    if path[:1] != ["instances"] or len(path) < 2 or not isinstance(path[1], int):
        return None
    field = path[2] if len(path) > 2 and path[2] in ("b64", "data", "image", "image_bytes") else None
    nested = path[3] if len(path) > 3 and field in ("image", "image_bytes") and path[3] == "b64" else None
    return "".join([f"instances[{path[1]}]", f".{field}" if field else "", f".{nested}" if nested else ""])


def _first_run(text: str, most_lists: int) -> int | None:
    start = text.find("[")
    for _ in range(most_lists):
        if start < 0 or RUN.match(text, start):
            return start if start >= 0 else None
        start = text.find("[", start + 1)
    return None
