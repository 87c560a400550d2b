"""The formats that are taken."""

from __future__ import annotations

# As Pillow calls them: as people do.
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}

*_others, _last = FORMATS.values()
FORMATS_SENTENCE = f"{', '.join(_others)} or {_last}"
