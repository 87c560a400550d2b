"""What a guard keeps of an image file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stripped:
    """An image file as a decoder gets it. exif, xmp: removed from the file (the last XMP of a JPEG stays in it).

    scans: the most that a JPEG may have. format: set if it is certain; if a decoder then refuses it, it is damaged.
    end: where the data of a JPEG's last scan ends, and its end marker is or should be.
    """

    image: bytes
    exif: bytes = b""
    xmp: bytes = b""
    scans: int = 1
    format: str = ""
    end: int = 0
