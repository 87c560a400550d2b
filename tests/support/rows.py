"""Requests as TorchServe passes them to the handler, with or without the front door."""

from __future__ import annotations

import json
import struct
from typing import Any

from ts.context import Context, RequestProcessor

from vision.worker.torchserve import Row

MODEL, VERSION = "alexnet", "0123456789ab"


def row(body: Any, protocol: str | None = None, explain: bool = False, **headers: Any) -> Row:
    """body: bytes, or a value to send as JSON. headers: with _ for -."""
    if not isinstance(body, (bytes, bytearray)):
        body = json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    told |= {"explain": str(explain)} | ({"x-client-protocol": protocol} if protocol else {})
    context = Context(MODEL, "", {"model": {"modelVersion": VERSION}}, 1, None, "0.12.0")
    context.request_processor = [RequestProcessor(told)]
    return Row({"body": body}, context, 0)


def binary(document: Any, *tensors: bytes) -> tuple[bytes, str]:
    """KServe v2's JSON with bytes after it → the body, and its header Inference-Header-Content-Length."""
    text = json.dumps(document).encode()
    return b"".join([text, *tensors]), str(len(text))


def elements(*contents: bytes) -> bytes:
    """A BYTES tensor."""
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)
