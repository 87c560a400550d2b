"""The entries of a TIFF's first directory. EXIF is such a directory too."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16  # types of values
RATIONAL = 5  # two LONGs
LAYOUTS = {BYTE: "u1", SHORT: "u2", LONG: "u4", RATIONAL: "u4", UNDEFINED: "u1", LONG8: "u8"}
ORIENTATION = 274


class Entry(NamedTuple):
    """values: their number. kind: their type. raw: the entry's bytes. order: the byte order, as in `byte_order`."""

    tag: int
    kind: int
    values: int
    raw: bytes
    order: str

    @property
    def value(self) -> int | None:
        """Its value if it is a single SHORT or LONG, which is stored in the entry itself."""
        if self.values != 1 or self.kind not in (SHORT, LONG):
            return None
        layout = self.order + ("H" if self.kind == SHORT else "I")
        return int(struct.unpack_from(layout, self.raw, len(self.raw) // 2 + 2)[0])

    def numbers(self, tiff: bytes) -> np.ndarray:
        """All its values, as integers; a fraction counts as two.

        Raises ValueError if they are not numbers, or the file lacks some of them.
        """
        if self.kind not in LAYOUTS:
            raise ValueError("not whole numbers")
        layout = np.dtype(self.order + LAYOUTS[self.kind])
        field = self.raw[len(self.raw) // 2 + 2 :]  # the values, or where they are
        count = self.values * (2 if self.kind == RATIONAL else 1)
        if count * layout.itemsize <= len(field):
            return np.frombuffer(field, layout, count)
        (offset,) = struct.unpack(self.order + ("I" if len(field) == 4 else "Q"), field)
        if offset > len(tiff):
            raise ValueError("beyond the end")
        return np.frombuffer(tiff, layout, count, offset)


def entries(tiff: bytes) -> Iterator[Entry]:
    """The entries that are completely in the file."""
    order, big = byte_order(tiff), is_big(tiff)
    offset, number = directory(tiff)
    layout = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    for at in range(offset, min(offset + number * layout.size, len(tiff) - layout.size + 1), layout.size):
        tag, kind, values = layout.unpack_from(tiff, at)
        yield Entry(tag, kind, values, tiff[at : at + layout.size], order)


def directory(tiff: bytes) -> tuple[int, int]:
    """Where the first entry is, and how many there are; if the file ends before it: beyond the end, and none."""
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
    """In the notation of `struct`."""
    return "<" if tiff[:2] == b"II" else ">"


def is_big(tiff: bytes) -> bool:
    """BigTIFF, in either byte order."""
    return b"+" in tiff[2:4]
