"""What a guard leaves of an image file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stripped:
    """An image file as a decoder gets it. exif, xmp: which it then lacks; of a JPEG, it still has its XMP.

    scans: of a JPEG, at most. format: where it is sure; what a decoder then refuses is damaged, and not unknown.
    end: of a JPEG, where the data of its last scan end: there its end marker is, or would be.
    """

    image: bytes
    exif: bytes = b""
    xmp: bytes = b""
    scans: int = 1
    format: str = ""
    end: int = 0
