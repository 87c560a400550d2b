"""How a transfer reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # bytes so far, bytes in total (0 if unknown)
