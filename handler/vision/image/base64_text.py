"""Base64 as clients write it → bytes. Unambiguous text is accepted; anything that could mean two things is refused.

    iVBORw0KGgo…                                    RFC 4648: either alphabet, not both; correct padding, or none
    data:image/png;name=cat.png;base64,iVBOR…       RFC 2397: any media type and parameters; %2B means +
    "iVBORw0KGgo…"                                  in quotation marks
    iVBORw0K                                        line breaks anywhere; spaces, if all lines are equally long
    Ggo…

Only a few copies of the text exist at a time, and nothing is stored per line: there may be millions.
"""

from __future__ import annotations

import re
import string
from contextlib import suppress

from vision.base64_bytes import b64decode, strict
from vision.errors import MalformedField, TooLarge

# The head of a data: URI, or what a client left of it. Base64 has no semicolon, so `data:` itself may be missing.
HEAD = re.compile(r"[^;,]{0,256}(?:;[^;]{0,1024}){0,20}?;\s{0,9}base64\s{0,9}(?:;[^,;]{0,256}){0,5},", re.IGNORECASE)
LONGEST_HEAD = 8192
DATA = re.compile(r"\s{0,99}data:", re.IGNORECASE)
PERCENT = (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%0D", "\r"), ("%0A", "\n"), ("%20", " "))  # as in URLs
ESCAPED = (("\\n", "\n"), ("\\r", "\r"), ("\\/", "/"))  # JSON escapes, applied twice
ESCAPED_DATA = re.compile(r"data%3a", re.IGNORECASE)
OF_A_HEAD = (("%3A", ":"), ("%3B", ";"), ("%2C", ","))  # encodeURIComponent of the whole URI
PYTHON_BYTES = re.compile(r"(?:bytearray\()?[bB]['\"]")
BETWEEN = re.compile(rb"[^\s][ \t]+[^\s]")  # within one line
LETTERS = (string.ascii_letters + string.digits + "+/-_").encode()
NOT_BASE64 = "not base64 (either alphabet, padded or not)"
FILLING = b" \t\r\n\v\f"
BYTE_ORDER_MARK = "\ufeff"


def decode_base64(text: str, place: str, max_bytes: int) -> bytes:
    """Raises RequestError: 400 for text that is not base64 or is ambiguous, 413 for more than `max_bytes`."""
    if _size(len(text)) <= max_bytes:
        with suppress(ValueError):
            return strict(text)  # the usual case
    text = text.strip().lstrip(BYTE_ORDER_MARK)
    if PYTHON_BYTES.match(text):
        raise MalformedField(
            place, "not base64, but Python's notation for bytes, b'…': call .decode() on them before sending"
        )
    if len(text) > 1 and text[0] in "\"'" and text[0] == text[-1]:  # JSON of JSON
        text = text[1:-1]
    text = _without_head(text, place)
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError:
        raise MalformedField(place, NOT_BASE64) from None
    return _decode(_joined(encoded, place), place, max_bytes)


def _without_head(text: str, place: str) -> str:
    """Removes escapes too."""
    if ESCAPED_DATA.match(text):
        text = _unescaped(text, OF_A_HEAD)
    head = HEAD.match(text, 0, LONGEST_HEAD)
    if head is None:
        if DATA.match(text):
            raise MalformedField(place, "a data: URI without ;base64, before its data")
    else:
        text = text[head.end() :]
    for sign, escapes in (("%", PERCENT), ("\\", ESCAPED)):
        if sign in text:
            text = _unescaped(text, escapes)
    return text


def _unescaped(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    for escape, letter in escapes:
        text = text.replace(escape, letter).replace(escape.lower(), letter)
    return text


def _joined(encoded: bytes, place: str) -> bytes:
    """Joins the lines."""
    encoded = encoded.strip()
    between = BETWEEN.search(encoded)
    joined = encoded.translate(None, FILLING)
    # `echo $(base64 FILE)` turns line breaks into spaces; but so does form decoding with +.
    if between and not _has_equal_lines(encoded, joined):
        raise MalformedField(place, "not base64: it has spaces, which could stand for line breaks or for +")
    return joined


def _has_equal_lines(encoded: bytes, joined: bytes) -> bool:
    """Whether single spaces split it into equally long lines (the last may be shorter), with no character missing."""
    length = encoded.find(b" ")
    if length < 0 or length % 4 or len(joined) % 4:
        return False
    breaks = encoded[length :: length + 1]
    return len(breaks) == len(encoded) - len(joined) == breaks.count(b" ")


def _decode(encoded: bytes, place: str, max_bytes: int) -> bytes:
    unpadded = encoded.rstrip(b"=")
    letters, padding = len(unpadded), len(encoded) - len(unpadded)
    if unpadded.translate(None, LETTERS):
        raise MalformedField(place, NOT_BASE64)
    if letters % 4 == 1 or (padding and (padding > 2 or len(encoded) % 4)):
        raise MalformedField(place, "not base64: it has a character too few or too many")
    if _size(letters) > max_bytes:
        raise TooLarge(place, max_bytes, "bytes")
    url_safe = b"-" in encoded or b"_" in encoded
    if url_safe and (b"+" in encoded or b"/" in encoded):
        raise MalformedField(place, "not base64: it mixes two alphabets (+ or / with - or _)")
    return b64decode(unpadded + b"=" * (-letters % 4), b"-_" if url_safe else None, validate=True)


def _size(letters: int) -> int:
    """How many bytes this many characters decode to; padding is counted too."""
    return letters * 3 // 4
