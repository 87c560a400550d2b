"""The bounds that several formats share."""

from __future__ import annotations

MAX_JUNK = 65_536  # bytes between the parts of a file that belong to none
MAX_CHUNKS = 20_000  # of a PNG, but for IDAT; of a GIF before its first picture
