"""An HTTP response → the bytes of an image, bounded and exactly as they were sent: nothing is decompressed."""

from __future__ import annotations

import http.client
import re
from typing import Callable

from vision.errors import TooLarge, UrlFailed

CHUNK_BYTES = 64 * 1024
IMAGE_TYPE = re.compile(
    r"(image/.+|(application|binary)/octet-stream.*)?", re.IGNORECASE
)  # the decoder checks the rest


def read_image(response: http.client.HTTPResponse, place: str, max_bytes: int, count: Callable[[int], None]) -> bytes:
    """The response's body.

    count: called with the number of bytes whenever some arrive; may raise.
    Raises RequestError: 413 above max_bytes, 502 for a bad answer or one that is no image. And what `response` raises.
    """
    if response.status != 200:
        raise UrlFailed(place, f"the host answered {response.status}")
    if not IMAGE_TYPE.fullmatch(response.getheader("Content-Type", "")):
        raise UrlFailed(place, "the host's answer is not an image")
    if not _says(response, "Content-Encoding", "identity") or not _says(response, "Transfer-Encoding", "chunked"):
        raise UrlFailed(place, "the host compressed its answer")
    if (response.length or 0) > max_bytes:  # Content-Length
        raise TooLarge(place, max_bytes, "bytes")
    image = bytearray()
    while True:
        chunk = response.read1(CHUNK_BYTES)
        if not chunk:
            break
        image += chunk
        if len(image) > max_bytes:
            raise TooLarge(place, max_bytes, "bytes")
        count(len(chunk))
    if response.length:  # bytes that Content-Length promised and that never came
        raise UrlFailed(place, "the connection was lost")
    return bytes(image)


def _says(response: http.client.HTTPResponse, header: str, only: str) -> bool:
    return response.getheader(header, only).lower() == only
