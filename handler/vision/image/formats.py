"""The formats that are taken."""

from __future__ import annotations

from vision.image.known import known_format

# Pillow's name for each, and the usual one.
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}

*_others, _last = FORMATS.values()
FORMATS_SENTENCE = f"{', '.join(_others)} or {_last}"

# How a file of each begins; TIFF has two byte orders, and BigTIFF too.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def looks_like_an_image(content: bytes | bytearray) -> bool:
    """By its first bytes; or like a file of another format, whose name a refusal then has."""
    return bytes(content[:8]).startswith(SIGNATURES) or known_format(content) is not None
