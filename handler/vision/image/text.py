"""Recognises text where the bytes of an image belong, so that a refusal can name it."""

from __future__ import annotations

import base64
import re
from contextlib import suppress

from vision.image.formats import looks_like_an_image

DATA_URI = re.compile(rb"\s{0,99}[\"']?data:[^,;\s]{0,99}(?:;[^,]{0,999})?,", re.IGNORECASE)
JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,99}(?:\{\s{0,99}[\"}]|\[\s{0,99}[\[{\"0-9])")
BASE64 = re.compile(rb"\s{0,99}(?:[bB]?[\"'])?([A-Za-z0-9+/_-]{8,60})")
LOOKED_AT = 2000
A_LINE = 60  # characters in a row: too many for a word


def kind_of_text(content: bytes | bytearray) -> str | None:
    """`base64`, `a data: URI` or `JSON`; None if it may be an image. Looks only at the first bytes."""
    head = bytes(content[:LOOKED_AT])
    if looks_like_an_image(head):
        return None
    if DATA_URI.match(head):
        return "a data: URI"
    if JSON.match(head):
        return "JSON"
    found = BASE64.match(head)
    return "base64" if found and _is_base64(found[1]) else None


def _is_base64(letters: bytes) -> bool:
    """Base64 of an image, or a long run of mixed characters."""
    with suppress(ValueError):
        if looks_like_an_image(base64.b64decode(letters[: len(letters) // 4 * 4], b"-_" if b"_" in letters else None)):
            return True
    mixed = letters.upper() != letters != letters.lower() and re.search(rb"[0-9]", letters)
    return len(letters) == A_LINE and bool(mixed)
