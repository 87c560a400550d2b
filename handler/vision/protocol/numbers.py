"""Where JSON that is full of numbers has them: who sends pixels, or bytes, as a list should hear that, not a count."""

from __future__ import annotations

import re

RUN = re.compile(r"\[\s*(?:-?[0-9][0-9.eE+-]*\s*,\s*){2}")  # a list that begins with two numbers: pixels have three
TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')
LONGEST_KEY = 20


def place_of_numbers(text: str, most_tokens: int) -> str | None:
    """`instances[0].b64` for a list of numbers there, or in it; None for one elsewhere, or behind very much else.

    text: JSON, perhaps damaged. It is read to the first such list, and no further than that many tokens.
    """
    start = _first_run(text, most_tokens)
    if start is None:
        return None
    path: list[int | str] = []  # of the open lists and objects: the index, or the latest text in it
    for count, token in enumerate(TOKEN.finditer(text, 0, start)):
        sign = token[0]
        if count > most_tokens:
            return None
        if sign in "[{":
            path.append(0 if sign == "[" else "")
        elif sign in "]}":
            if not path:
                return None
            path.pop()
        elif sign == ",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif path and isinstance(path[-1], str):
            path[-1] = sign[1 : LONGEST_KEY + 1].rstrip('"')
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
