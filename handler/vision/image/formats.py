"""The image formats that are accepted."""

from __future__ import annotations

from vision.image.known import known_format

# Pillow's name for each → the usual one.
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}

*_others, _last = FORMATS.values()
FORMATS_SENTENCE = f"{', '.join(_others)} or {_last}"

# The first bytes of each; TIFF and BigTIFF have two byte orders.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def looks_like_an_image(content: bytes | bytearray) -> bool:
    """Judged by its first bytes. Also true for known formats that are not accepted, so that a refusal can name them."""
    return bytes(content[:8]).startswith(SIGNATURES) or known_format(content) is not None
