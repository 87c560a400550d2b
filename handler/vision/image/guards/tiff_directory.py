"""A TIFF's first directory, entry by entry. EXIF is one too."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16  # kinds of values
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


def entries(tiff: bytes) -> Iterator[Entry]:
    """Those that the file has all bytes of."""
    order, big = byte_order(tiff), is_big(tiff)
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
        (number,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    except (struct.error, OverflowError):
        return
    offset += 8 if big else 2
    layout = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    for at in range(offset, min(offset + number * layout.size, len(tiff) - layout.size + 1), layout.size):
        tag, kind, values = layout.unpack_from(tiff, at)
        yield Entry(tag, kind, values, tiff[at : at + layout.size], order)


def byte_order(tiff: bytes) -> str:
    """As `struct` writes it."""
    return "<" if tiff[:2] == b"II" else ">"


def is_big(tiff: bytes) -> bool:
    """BigTIFF, by the byte that Pillow goes by."""
    return tiff[2:3] == b"+"
