"""Malformed bodies and odd images, and how this project's server answers each. bombs.py has the expensive ones."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from PIL import Image

from reliability.pictures import base64_text, encoded, gradient

LIMIT = 10 * 1024 * 1024  # bytes of an image
IMAGE = encoded(gradient(), "JPEG")
TEXT = base64_text(IMAGE)


def one(instance: Any) -> bytes:
    """A request body with only this instance."""
    return json.dumps({"instances": [instance]}).encode()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    return buffer.getvalue()


def gif_and_script() -> bytes:
    """`GIF89a/*` begins a comment in JavaScript: the screen is 10,799 wide, and one high."""
    return b"GIF89a/*\x01\0" + encoded(Image.new("P", (10_799, 1)), "GIF")[10:] + b"*/=1;alert(1)"


# Name → body, status, and the beginning of the error.
JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    "text": (b'"text"', 400, "body: "),
    "a list": (b"[1, 2]", 400, "body: "),
    "null": (b"null", 400, "body: "),
    "NaN": (b"NaN", 400, "body: "),
    "NaN as instances": (b'{"instances": NaN}', 400, "instances: "),
    "NaN as an instance": (b'{"instances": [NaN]}', 400, "instances[0]: "),
    "no instances": (b"{}", 400, "instances: "),
    "empty instances": (b'{"instances": []}', 400, "instances: "),
    "a thousand instances": (b'{"instances": [' + b"{}," * 999 + b"{}]}", 413, "instances: "),
    "a million instances": (b'{"instances": [' + b"{}," * 999_999 + b"{}]}", 413, "body: more than 10000 values"),
    "a thousand numbers": (b'{"instances": [' + b"0," * 999 + b"0]}", 400, "instances: "),
    "a million numbers": (b'{"instances": [' + b"0," * 999_999 + b"0]}", 400, "instances: "),
    "nested in itself": (b'{"instances": ' * 5_000, 400, "body: "),
    "nested in itself, very deeply": (b'{"instances": ' * 100_000, 413, "body: more than 10000 values"),
    "brackets": (b"[" * 5_000_000, 413, "body: more than 10000 values"),
    "lists of lists": (b'{"instances": [' + b"[[]]," * 3_000_000 + b"0]}", 413, "body: more than 10000 values"),
    "a long number": (b'{"instances": ' + b"1" * 1_000_000 + b"}", 400, "body: "),
    "NUL bytes": (bytes(1000), 400, "body: "),
    "a NUL in a key": (b'{"instances": [{"b64\\u0000": "AAAA"}]}', 400, "instances[0]: "),
    "a NUL in base64": (b'{"instances": [{"b64": "AA\\u0000A"}]}', 400, "instances[0].b64: "),
    "a lone surrogate": (b'{"instances": [{"b64": "\\ud800"}]}', 400, "instances[0].b64: "),
    "a lone surrogate as a key": (b'{"\\udfff": 1}', 400, "instances: "),
    "UTF-16": ('{"instances": [5]}'.encode("utf-16"), 400, "instances[0]: "),  # which JSON's reader understands
    "not UTF-8": (b'{"instances": ["\xff\xfe"]}', 400, "body: "),
    "base64 of both alphabets": (one({"b64": TEXT[:-8] + "+/-_+/-_"}), 400, "instances[0].b64: "),
    "a letter too many": (one({"b64": TEXT.rstrip("=")[: len(TEXT) // 8 * 4 + 1]}), 400, "instances[0].b64: "),
    "padding within": (one({"b64": "QQ==" + TEXT}), 400, "instances[0].b64: "),
    "the second is wrong": (json.dumps({"instances": [{"b64": TEXT}, {"b64": 5}]}).encode(), 400, "instances[1].b64: "),
    "a URL": (one({"url": "http://169.254.169.254/\r\nX: y"}), 403, "instances[0].url: "),
    "parameters": (b'{"instances": [0], "parameters": {"top_k": 1e99}}', 400, "parameters.top_k: "),
    "line breaks in a key": (b'{"instances": [{"\\r\\nERROR forged\\u001b[31m": 1}]}', 400, "instances[0]: "),
}  # fmt: skip

# Name → file, status.
IMAGES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "half": (IMAGE[: len(IMAGE) // 2], 400),
    "a ZIP": (zipped(), 400),
    "a JPEG and a ZIP": (IMAGE + zipped(), 200),
    "a GIF and JavaScript": (gif_and_script(), 200),
    "JSON": (one({"b64": TEXT}), 400),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400),
    "1×1": (encoded(gradient(1, 1)), 200),
    "1×60000": (encoded(gradient(1, 60_000)), 200),
    "60000×1": (encoded(gradient(60_000, 1), "GIF"), 200),
    "at the limit of pixels": (encoded(Image.new("1", (50_000, 1000)), "PNG"), 200),
    "a row above the limit": (encoded(Image.new("1", (50_000, 1001)), "PNG"), 413),
    "at the limit of bytes": (IMAGE + bytes(LIMIT - len(IMAGE)), 200),
    "a byte above the limit": (IMAGE + bytes(LIMIT + 1 - len(IMAGE)), 413),
    "a byte below the limit": (IMAGE + bytes(LIMIT - 1 - len(IMAGE)), 200),
}
