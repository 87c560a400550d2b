"""Numbers and switches from the environment. An invalid value keeps the server from starting, with a one-line error."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from server.errors import NotServed

ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

# Faults in variables that are read at import, where an error could not be reported: `check` reports them.
_faults: list[str] = []


def check() -> None:
    """Raises NotServed if a variable that was read at import is invalid."""
    if _faults:
        raise NotServed(_faults[0])


def seconds(name: str, default: float, least: float = 0, most: float = 86400) -> float:
    """A variable from `least` to `most`. If it is invalid, returns the default, and `check` raises."""
    said = os.environ.get(name) or str(default)
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if least <= value <= most:  # which NaN is not
        return value
    _faults.append(f"{name}={said} is not a number of seconds from {least:g} to {most:g}")
    return default


def port(name: str, default: int) -> int:
    """A port, like `seconds`; 0 means any."""
    try:
        return whole_number(name, os.environ.get(name) or str(default), 0, 65535)
    except NotServed as fault:
        _faults.append(str(fault))
        return default


def whole_number(name: str, said: str, least: int, most: int) -> int:
    """A variable's value. Raises NotServed."""
    if said.isascii() and said.isdecimal() and least <= int(said[:10]) <= most and len(said) <= 10:
        return int(said)
    raise NotServed(f"{name}={said} is not a whole number from {least} to {most}")


def switch(name: str, said: str) -> bool:
    """A variable's value. Raises NotServed."""
    if said.lower() in ON:
        return True
    if said.lower() in OFF:
        return False
    raise NotServed(f"{name}={said} is neither 1 nor 0")


class Variable(NamedTuple):
    """A variable that is read when needed. read: the text → its value; raises NotServed."""

    name: str
    default: str
    read: Callable[[str], object]

    def value(self) -> object:
        return self.read(os.environ.get(self.name) or self.default)


def number(name: str, default: int, least: int, most: int) -> Variable:
    return Variable(name, str(default), lambda said: whole_number(name, said, least, most))
