"""How a deployment speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Line = Callable[[str], None]


@dataclass(frozen=True)
class Voice:
    """`progress` is called at every look, mostly with what it said already."""

    say: Line = lambda _: None
    warn: Line = lambda _: None
    progress: Line = lambda _: None
