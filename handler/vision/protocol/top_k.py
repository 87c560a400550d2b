"""How many classes are asked for. If it is misplaced or misspelt, it is refused rather than ignored."""

from __future__ import annotations

import re

from vision.errors import MalformedField
from vision.worker.settings import Limits

TOP_K = "top_k"
LONGEST_TOP_K = 10
BELONGS = '{"instances": […], "parameters": {"top_k": 5}}, or ?top_k=5 in the URL'
V2_BELONGS = BELONGS.replace("instances", "inputs")

# `top_k` itself, `topK`, `top-k`, `Parameters.top_k`, `top_n`, …
LIKE_IT = re.compile(r"(?<![a-z])(?:top[\W_]*[kn]|k[\W_]*top)(?![a-z])", re.IGNORECASE)
LONGEST_NAME = 100


def of_row(row: dict[str, object], asked: str | None) -> str | None:
    """The top_k of the URL, or of a form that TorchServe has decoded: both are among the fields of the row."""
    if any(name != TOP_K and is_like_top_k(name) for name in row):
        raise MalformedField(TOP_K, "must be spelled like this in a URL or a form; a similar name is there")
    if TOP_K not in row:
        return asked
    found = row[TOP_K]
    return found.decode("ascii", "replace") if isinstance(found, (bytes, bytearray)) else str(found)


def of_text(text: str | None, limits: Limits) -> int:
    """The top_k of a form or a URL."""
    if text is None:
        return limits.default_top_k
    return _checked(int(text) if len(text) <= LONGEST_TOP_K and text.isdecimal() else text, limits, TOP_K)


def of_parameters(parameters: object, asked: str | None, limits: Limits, known: tuple[str, ...] = (TOP_K,)) -> int:
    """asked: the top_k of the URL. known: all parameters that are allowed."""
    if parameters is None or parameters == {}:
        return of_text(asked, limits)
    if not isinstance(parameters, dict):
        raise MalformedField("parameters", "expected an object")
    if not parameters.keys() <= {*known}:
        *others, last = known
        names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        raise MalformedField("parameters", f"only {names} accepted: {BELONGS}")
    if TOP_K not in parameters:
        return of_text(asked, limits)
    if asked is not None:
        raise MalformedField(TOP_K, "is given twice, in the URL and in parameters")
    return _checked(parameters[TOP_K], limits, f"parameters.{TOP_K}")


def refuse_elsewhere(body: dict[str, object], instances: list[object], places: list[str]) -> None:
    """Raises RequestError (400) if it is in an instance, or anywhere else outside `parameters`."""
    known = ("instances", "parameters")
    if any(is_like_top_k(name) or _holds_it(value) for name, value in body.items() if name not in known):
        raise MalformedField(TOP_K, f"is in the wrong place: send {BELONGS}")
    for instance, place in zip(instances, places):
        if isinstance(instance, dict) and (instance.get("parameters") or _holds_it(instance)):
            raise MalformedField(place, f"parameters apply to all instances: {BELONGS}")


def is_like_top_k(name: object) -> bool:
    return name in ("k", "K") or _has_such_a_name(name)


def _holds_it(value: object) -> bool:
    """Whether it is anywhere in a JSON value. A nested `k` does not count: it may be a camera matrix, say."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            if any(map(_has_such_a_name, found)):
                return True
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)
    return False


def _has_such_a_name(name: object) -> bool:
    return isinstance(name, str) and LIKE_IT.search(name, 0, LONGEST_NAME) is not None


def _checked(top_k: object, limits: Limits, place: str) -> int:
    if type(top_k) is not int or not 1 <= top_k <= limits.max_top_k:  # bool is an int too
        raise MalformedField(place, f"expected an integer from 1 to {limits.max_top_k}")
    return top_k
