"""The formats that are taken."""

from __future__ import annotations

# Pillow's name for each, and the usual one.
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}

*_others, _last = FORMATS.values()
FORMATS_SENTENCE = f"{', '.join(_others)} or {_last}"
