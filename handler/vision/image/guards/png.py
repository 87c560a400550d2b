"""PNG: its chunks are counted."""

from __future__ import annotations

import struct

from vision.errors import TooLarge
from vision.image.guards.bounds import MAX_CHUNKS

START = b"\x89PNG\r\n\x1a\n"
COMPRESSED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt")
MAX_COMPRESSED_CHUNKS = 100  # profiles and texts, each of which may unpack to a megabyte


def check_chunks(image: bytes, place: str) -> None:
    """Raises TooLarge."""
    chunks = compressed = 0
    position = len(START)
    while position + 8 <= len(image):
        length, kind = struct.unpack_from(">I4s", image, position)
        position += 12 + length
        chunks += kind != b"IDAT"
        compressed += kind in COMPRESSED_CHUNKS
        if chunks > MAX_CHUNKS:
            raise TooLarge(place, MAX_CHUNKS, "chunks")
        if compressed > MAX_COMPRESSED_CHUNKS:
            raise TooLarge(place, MAX_COMPRESSED_CHUNKS, "compressed chunks of text or profiles")
