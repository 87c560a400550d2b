"""One instance → the bytes of its image: base64 in its several forms, a raw body, or a URL that is being fetched."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from vision.errors import MalformedField, NotAnImage, TooLarge
from vision.fetch.image_url import PendingImage, RequestFetches, UrlFetcher

# The names under which clients of KServe and of its neighbours send an image.
BASE64_FIELDS = ("b64", "data")  # TF Serving and Vertex AI; TorchServe's KServe examples
NESTED_FIELDS = ("image", "image_bytes")  # KServe's custom predictor example; TF Serving's image examples
URL_FIELD = "url"
ALL_FIELDS = (*BASE64_FIELDS, *NESTED_FIELDS, URL_FIELD)

DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file, and how an error names it."""

    content: bytes
    place: str


@dataclass(frozen=True)
class LocatedImage:
    """Where an image is: its bytes, or the pending fetch of its URL; and how an error names it."""

    source: bytes | PendingImage
    place: str

    def wait(self) -> EncodedImage:
        """Waits for the fetch, if there is one. Raises RequestError: 403, 413, 502 or 504."""
        content = self.source if isinstance(self.source, bytes) else self.source.result()
        return EncodedImage(content, self.place)


def locate_image(instance: object, place: str, max_bytes: int, fetcher: UrlFetcher | RequestFetches) -> LocatedImage:
    """One instance → where its image is.

    Raises RequestError: 400 for a wrong form, 413 above `max_bytes`, 403 for a URL that is not allowed.
    """
    if isinstance(instance, bytes):
        return LocatedImage(_bounded(instance, place, max_bytes), place)
    if not isinstance(instance, dict):
        raise MalformedField(place, 'expected an object such as {"b64": "…"}')
    fields = [name for name in ALL_FIELDS if name in instance]
    if len(fields) != 1:
        raise MalformedField(place, f"expected exactly one of {', '.join(ALL_FIELDS)}")

    field, value, place = fields[0], instance[fields[0]], f"{place}.{fields[0]}"
    if field == URL_FIELD:
        return LocatedImage(fetcher.start(value, place), place)
    if field in NESTED_FIELDS:
        if not isinstance(value, dict) or "b64" not in value:
            raise MalformedField(place, 'expected {"b64": "…"}')
        value, place = value["b64"], f"{place}.b64"
    return LocatedImage(_decode_base64(value, place, max_bytes), place)


def _decode_base64(text: object, place: str, max_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise MalformedField(place, "expected base64 text")
    prefix = DATA_URI.match(text)
    if prefix:
        text = text[prefix.end() :]
    if len(text) // 4 * 3 > max_bytes + 2:  # base64: 3 bytes in 4 characters, up to 2 of padding
        raise TooLarge(place, max_bytes, "bytes")
    try:
        image = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one
        image = _decode_wrapped_base64(text, place)
    return _bounded(image, place, max_bytes)


def _decode_wrapped_base64(text: str, place: str) -> bytes:
    """base64(1) and MIME break lines: worth a second look, with the line breaks removed."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise MalformedField(place, "not base64 (standard alphabet, with padding)") from None


def _bounded(image: bytes, place: str, max_bytes: int) -> bytes:
    if not image:
        raise NotAnImage(place)
    if len(image) > max_bytes:
        raise TooLarge(place, max_bytes, "bytes")
    return image
