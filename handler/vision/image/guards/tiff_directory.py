"""A TIFF's first directory, entry by entry. EXIF is one too."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16  # kinds of values
RATIONAL = 5  # which is two of LONG
LAYOUTS = {BYTE: "u1", SHORT: "u2", LONG: "u4", RATIONAL: "u4", UNDEFINED: "u1", LONG8: "u8"}
ORIENTATION = 274


class Entry(NamedTuple):
    """values: how many it has; kind: of what kind they are. raw: its bytes in the file. order: of bytes, see below."""

    tag: int
    kind: int
    values: int
    raw: bytes
    order: str

    @property
    def value(self) -> int | None:
        """Its value where it has just one, a SHORT or a LONG: that lies in the entry itself."""
        if self.values != 1 or self.kind not in (SHORT, LONG):
            return None
        layout = self.order + ("H" if self.kind == SHORT else "I")
        return int(struct.unpack_from(layout, self.raw, len(self.raw) // 2 + 2)[0])

    def numbers(self, tiff: bytes) -> np.ndarray:
        """All its values, whole numbers; of a fraction, both.

        Raises ValueError where they are no numbers, or the file has not all of them.
        """
        if self.kind not in LAYOUTS:
            raise ValueError("no whole numbers")
        layout = np.dtype(self.order + LAYOUTS[self.kind])
        field = self.raw[len(self.raw) // 2 + 2 :]  # the values, or where they are
        count = self.values * (2 if self.kind == RATIONAL else 1)
        if count * layout.itemsize <= len(field):
            return np.frombuffer(field, layout, count)
        (offset,) = struct.unpack(self.order + ("I" if len(field) == 4 else "Q"), field)
        if offset > len(tiff):
            raise ValueError("behind the end")
        return np.frombuffer(tiff, layout, count, offset)


def entries(tiff: bytes) -> Iterator[Entry]:
    """Those that the file has all bytes of."""
    order, big = byte_order(tiff), is_big(tiff)
    offset, number = directory(tiff)
    layout = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    for at in range(offset, min(offset + number * layout.size, len(tiff) - layout.size + 1), layout.size):
        tag, kind, values = layout.unpack_from(tiff, at)
        yield Entry(tag, kind, values, tiff[at : at + layout.size], order)


def directory(tiff: bytes) -> tuple[int, int]:
    """Where the first entry is, and how many there are: none, behind the end, where the file ends before it."""
    order, big = byte_order(tiff), is_big(tiff)
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
        (number,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    except (struct.error, OverflowError):
        return len(tiff) + 1, 0
    return offset + (8 if big else 2), number


def is_cut(tiff: bytes) -> bool:
    """Whether the file ends before its directory does."""
    start, number = directory(tiff)
    return start + number * (20 if is_big(tiff) else 12) > len(tiff)


def byte_order(tiff: bytes) -> str:
    """As `struct` writes it."""
    return "<" if tiff[:2] == b"II" else ">"


def is_big(tiff: bytes) -> bool:
    """BigTIFF, in either byte order."""
    return b"+" in tiff[2:4]
