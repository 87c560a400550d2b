"""Bounds shared by several formats."""

from __future__ import annotations

MAX_JUNK = 65_536  # bytes between the parts of a file
MAX_CHUNKS = 20_000  # in a PNG, without IDAT; in a GIF, before its first picture
