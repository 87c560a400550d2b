"""How a transfer tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0 where that is not known)
