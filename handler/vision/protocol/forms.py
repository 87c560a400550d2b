"""multipart/form-data → its files, in order, or its JSON. Bounds are checked before the work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vision.errors import MalformedBody, MalformedField, TooLarge, UnsupportedType
from vision.image.formats import looks_like_an_image
from vision.protocol.kinds import BASE64_BELONGS, looks_like_json
from vision.protocol.top_k import LONGEST_TOP_K, TOP_K
from vision.worker.settings import Limits

FILE_FIELDS = ("data", "file", "image", "files", "files[]")
JSON_FIELD = "data"
MAX_PART_HEADER = 1024  # bytes of one header line of a part, such as a file name
MAX_PART_HEADERS = 8
BOUNDARY = re.compile(r"[ -~]{1,70}")  # RFC 2046, 5.1.1


@dataclass(frozen=True)
class Form:
    """The content of a form: files with their places, or JSON; and the text of its top_k."""

    files: list[bytes]
    places: list[str]
    json: bytes | None
    top_k: str | None


def parse_form(body: bytes | bytearray, content_type: str, limits: Limits) -> Form:
    """The body of a form → its content. content_type: with its parameters.

    Raises RequestError: 400 for a form that is malformed or has other fields, 413 for more parts than the images
    allowed, 415 if the library that reads forms is not installed.
    """
    parts = _parts(body, content_type, limits)
    form = Form([], [], None, None)
    several = sum(name in FILE_FIELDS for name, _, _ in parts) > 1
    for name, content, is_file in parts:
        if name == TOP_K:
            form = _with_top_k(form, content)
        elif name not in FILE_FIELDS:
            raise MalformedBody(
                f"a form may only have {', '.join(FILE_FIELDS)} and {TOP_K}; this one has another field"
            )
        elif name == JSON_FIELD and looks_like_json(content):
            if several:
                raise MalformedField(name, "send the JSON alone, without files")
            form = Form([], [], content, form.top_k)
        else:
            place = f"{name}[{len(form.files)}]" if several else name
            if not is_file and not looks_like_an_image(content):
                raise MalformedField(place, f"expected a file, or JSON; {BASE64_BELONGS}")
            form.files.append(content)
            form.places.append(place)
    if form.json is None and not form.files:
        raise MalformedBody(f"the form has no file in {', '.join(FILE_FIELDS)}")
    return form


def _with_top_k(form: Form, content: bytes) -> Form:
    if form.top_k is not None:
        raise MalformedField(TOP_K, "is given twice")
    text = content.decode("ascii", "replace") if len(content) <= LONGEST_TOP_K else ""
    return Form(form.files, form.places, form.json, text)


def _parts(body: bytes | bytearray, content_type: str, limits: Limits) -> list[tuple[str, bytes, bool]]:
    """Each part's name, its content, and whether it is a file."""
    try:
        # Missing in TorchServe's own images, whose front end reads forms itself.
        from multipart import (
            MultipartError,
            MultipartSegment,
            ParserLimitReached,
            PushMultipartParser,
            parse_options_header,
        )
    except ImportError:
        raise UnsupportedType("this server does not accept forms") from None

    try:
        _, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if not BOUNDARY.fullmatch(boundary):
            raise MalformedBody("the form's content type needs a boundary of 1 to 70 characters")
        parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER,
            max_header_count=MAX_PART_HEADERS,
            max_segment_count=limits.max_instances + 1,  # and top_k
            strict=True,
        )
        parts: list[tuple[str, bytes, bool]] = []
        with parser:
            # All at once: given in pieces, the parser refuses an epilogue that begins a new piece.
            for event in parser.parse(bytes(body)):
                if isinstance(event, MultipartSegment):
                    _check_encoding(event.header("Content-Transfer-Encoding"))
                    part, pieces = event, []
                elif event is not None:
                    pieces.append(event)
                else:
                    parts.append((part.name or "", b"".join(pieces), part.filename is not None))
    except ParserLimitReached as error:
        error.__traceback__ = None  # the parser keeps the error, and this would keep the parser and the body
        raise TooLarge("body", limits.max_instances, f"files, or {MAX_PART_HEADER} bytes in a part's header") from None
    except MultipartError as error:
        error.__traceback__ = None
        raise MalformedBody("not a valid form (multipart/form-data, RFC 7578)") from None
    return parts


def _check_encoding(encoding: str | None) -> None:
    if encoding is not None and encoding.lower() not in ("binary", "8bit", "7bit"):
        raise MalformedBody("a part has Content-Transfer-Encoding: send the file's bytes as they are")
