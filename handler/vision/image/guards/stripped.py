"""What a guard leaves of an image file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stripped:
    """An image file as a decoder gets it. exif: of a JPEG, which it then lacks. scans: of a JPEG, at most."""

    image: bytes
    exif: bytes = b""
    scans: int = 1
