"""How a deployment reports to the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Line = Callable[[str], None]


@dataclass(frozen=True)
class Voice:
    """`progress` is called at every poll, usually with the same text as before."""

    say: Line = lambda _: None
    warn: Line = lambda _: None
    progress: Line = lambda _: None
