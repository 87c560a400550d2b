"""What a body is: an image, JSON or a form. A meaningful content type decides; otherwise the first bytes do."""

from __future__ import annotations

import re
from enum import Enum

from vision.errors import MalformedBody, UnsupportedType
from vision.image.formats import looks_like_an_image
from vision.image.text import kind_of_text

IMAGE_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
JSON_TYPES = ("application/json", "text/json")
FORM_TYPE = "multipart/form-data"
URL_ENCODED = "application/x-www-form-urlencoded"
# A client that declares one of these means it. Any other type may be a default of the client or a proxy.
OTHER_TYPES = (
    *("audio/", "font/", "message/", "model/", "multipart/", "video/"),
    *("application/pdf", "application/xml", "application/zip", "text/html", "text/xml"),
)

BASE64_BELONGS = 'base64 belongs in JSON, {"instances": [{"b64": "…"}]}'
# Possibly after a byte order mark; UTF-16 and UTF-32 have zeros in between.
LIKE_JSON = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]{0,1000}[\[{]")
LIKE_A_FIELD = re.compile(rb"[\w.%+\[\]-]{1,100}=")


class Kind(Enum):
    """The kind of a body."""

    IMAGE = 1
    JSON = 2
    FORM = 3


def kind_of(body: bytes | bytearray, content_type: str) -> Kind:
    """content_type: as the client declares it, with parameters; may be empty or nonsense.

    Raises RequestError: 415 for a type that is clearly something else, 400 for a URL-encoded form.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == FORM_TYPE:
        return Kind.FORM
    if media_type.startswith(IMAGE_TYPES):
        return Kind.IMAGE
    if media_type in JSON_TYPES or media_type.endswith("+json"):
        return Kind.JSON
    if media_type.startswith(OTHER_TYPES) or media_type.endswith("+xml"):
        raise UnsupportedType(f"expected an image (image/*), JSON ({JSON_TYPES[0]}) or a form ({FORM_TYPE})")
    # `curl -T` sends no type and `curl --data-binary` URL_ENCODED: the user did not choose either.
    if looks_like_an_image(body):
        return Kind.IMAGE
    if looks_like_json(body) or not body.strip():
        return Kind.JSON
    if media_type == URL_ENCODED or LIKE_A_FIELD.match(body):
        raise MalformedBody(f"URL-encoded forms are not accepted: {BASE64_BELONGS}")
    return Kind.JSON if media_type and not kind_of_text(body) else Kind.IMAGE  # where base64 is named in the error


def looks_like_json(body: bytes | bytearray) -> bool:
    """Judged by its first character; we accept only objects and lists."""
    return LIKE_JSON.match(body) is not None
