"""One instance → its image: base64 in several forms, a raw body, a URL to fetch, or pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision.errors import MalformedField, NotAnImage, TooLarge
from vision.fetch.image_url import PendingImage, RequestFetches, UrlFetcher
from vision.image.base64_text import DATA, decode_base64
from vision.image.text import kind_of_text

# The field names that clients of KServe and related servers use for an image.
BASE64_FIELDS = ("b64", "data")  # TF Serving and Vertex AI; TorchServe's KServe examples
NESTED_FIELDS = ("image", "image_bytes")  # KServe's custom predictor example; TF Serving's image examples
URL_FIELD = "url"
ALL_FIELDS = (*BASE64_FIELDS, *NESTED_FIELDS, URL_FIELD)

NOT_BASE64 = 'expected base64 text (a list of numbers, or Node\'s {"type": "Buffer"}, is none)'
INSTEAD_OF_BYTES = 'instead of the bytes of an image; base64 belongs in JSON, {"instances": [{"b64": "…"}]}'


@dataclass(frozen=True)
class Element:
    """An element of a KServe v2 BYTES tensor: the bytes of an image, or, since JSON has no bytes, their base64 text."""

    content: bytes | str


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file, or RGB pixels, uint8 of shape (height, width, 3); and how an error names it."""

    content: bytes | np.ndarray
    place: str


@dataclass(frozen=True)
class LocatedImage:
    """Where an image is: its bytes or pixels, or the pending fetch of its URL; and how an error names it."""

    source: bytes | np.ndarray | PendingImage
    place: str

    def wait(self) -> EncodedImage:
        """Waits for the fetch, if any. Raises RequestError: 400, 403, 413, 502 or 504."""
        if isinstance(self.source, (bytes, np.ndarray)):
            return EncodedImage(self.source, self.place)
        content = self.source.result()
        if kind := kind_of_text(content):
            raise MalformedField(self.place, f"the host answered with {kind}, instead of an image")
        return EncodedImage(content, self.place)


def locate_image(instance: object, place: str, max_bytes: int, fetcher: UrlFetcher | RequestFetches) -> LocatedImage:
    """One instance → where its image is.

    Raises RequestError: 400 for malformed instances, 413 above `max_bytes`, 403 for a URL that is not allowed.
    """
    if isinstance(instance, bytes):
        return LocatedImage(_bounded(_bytes_of_an_image(instance, place), place, max_bytes), place)
    if isinstance(instance, np.ndarray):
        return LocatedImage(instance, place)
    if isinstance(instance, Element):
        return LocatedImage(_bounded(_bytes_of_an_element(instance.content, place, max_bytes), place, max_bytes), place)
    if not isinstance(instance, dict):
        raise MalformedField(place, 'expected an object such as {"b64": "…"}')
    fields = [name for name in ALL_FIELDS if name in instance]
    if len(fields) != 1:
        raise MalformedField(place, f"expected exactly one of {', '.join(ALL_FIELDS)}")

    field, value, place = fields[0], instance[fields[0]], f"{place}.{fields[0]}"
    if field == URL_FIELD and not (isinstance(value, str) and DATA.match(value)):
        return LocatedImage(fetcher.start(value, place), place)
    if field in NESTED_FIELDS:
        if not isinstance(value, dict) or "b64" not in value:
            raise MalformedField(place, 'expected {"b64": "…"}')
        value, place = value["b64"], f"{place}.b64"
    if not isinstance(value, str):
        raise MalformedField(place, NOT_BASE64 if isinstance(value, (list, dict)) else "expected base64 text")
    return LocatedImage(_bounded(_bytes_of_base64(value, place, max_bytes), place, max_bytes), place)


def _bytes_of_base64(text: str, place: str, max_bytes: int) -> bytes:
    image = decode_base64(text, place, max_bytes)
    if kind := kind_of_text(image):
        raise MalformedField(place, f"it decodes to {kind}: encode the image's bytes once")
    return image


def _bytes_of_an_element(content: bytes | str, place: str, max_bytes: int) -> bytes:
    if isinstance(content, str):
        return _bytes_of_base64(content, place, max_bytes)
    kind = kind_of_text(content)
    if kind == "JSON":
        raise MalformedField(place, "JSON instead of the bytes of an image or their base64")
    return _bytes_of_base64(content.decode("latin-1"), place, max_bytes) if kind else content


def _bytes_of_an_image(content: bytes, place: str) -> bytes:
    kind = kind_of_text(content)
    if kind == "JSON":
        raise MalformedField(place, "JSON instead of the bytes of an image: send it as application/json")
    if kind:
        raise MalformedField(place, f"{kind} {INSTEAD_OF_BYTES}")
    return content


def _bounded(image: bytes, place: str, max_bytes: int) -> bytes:
    if not image:
        raise NotAnImage(place)
    if len(image) > max_bytes:
        raise TooLarge(place, max_bytes, "bytes")
    return image
