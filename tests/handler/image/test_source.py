"""Every form of an instance, and every way to get it wrong."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from reliability.pictures import base64_text, encoded, gradient
from vision.errors import NotAnImage, RequestError, TooLarge, UrlNotAllowed
from vision.fetch.image_url import UrlFetcher
from vision.image.source import EncodedImage, locate_image
from vision.worker.settings import Limits

BYTES = bytes(range(256))
TEXT = base64_text(BYTES)
OFF = UrlFetcher(allowed_hosts=[], timeout_s=1, max_bytes=1000)


def locate(instance: Any, limits: Limits) -> EncodedImage:
    return locate_image(instance, "instances[7]", limits.max_image_bytes, OFF).wait()


def refusal(instance: Any, limits: Limits) -> RequestError:
    with pytest.raises(RequestError) as caught:
        locate(instance, limits)
    return caught.value


@pytest.mark.parametrize(
    ("instance", "place"),
    [
        ({"b64": TEXT}, "instances[7].b64"),
        ({"data": TEXT}, "instances[7].data"),
        ({"image": {"b64": TEXT}}, "instances[7].image.b64"),
        ({"image_bytes": {"b64": TEXT}}, "instances[7].image_bytes.b64"),
        ({"image": {"b64": "data:image/jpeg;base64," + TEXT}}, "instances[7].image.b64"),
        ({"b64": base64.encodebytes(BYTES).decode()}, "instances[7].b64"),  # with line breaks
        ({"url": "data:image/jpeg;base64," + TEXT}, "instances[7].url"),
        ({"b64": TEXT, "key": "mine", "label": 3}, "instances[7].b64"),  # unknown fields are ignored
        (BYTES, "instances[7]"),
    ],
)
def test_each_form_gives_the_same_bytes(instance: Any, place: str, limits: Limits) -> None:
    assert locate(instance, limits) == EncodedImage(BYTES, place)


@pytest.mark.parametrize("instance", [None, 5, "text", TEXT, [], [1, 2], True])
def test_what_is_no_object_is_refused(instance: Any, limits: Limits) -> None:
    error = refusal(instance, limits)
    assert (error.status, str(error)) == (400, 'instances[7]: expected an object such as {"b64": "…"}')


@pytest.mark.parametrize("instance", [{}, {"picture": TEXT}, {"b64": TEXT, "data": TEXT}, {"b64": TEXT, "url": "x"}])
def test_none_or_several_of_the_forms_are_refused(instance: Any, limits: Limits) -> None:
    error = refusal(instance, limits)
    assert (error.status, str(error)) == (
        400,
        "instances[7]: expected exactly one of b64, data, image, image_bytes, url",
    )


@pytest.mark.parametrize("field", ["image", "image_bytes"])
@pytest.mark.parametrize("value", [TEXT, None, {}, {"url": "x"}, [{"b64": TEXT}]])
def test_a_nested_form_must_nest(field: str, value: Any, limits: Limits) -> None:
    assert str(refusal({field: value}, limits)) == f'instances[7].{field}: expected {{"b64": "…"}}'


@pytest.mark.parametrize("value", [None, 5, True])
def test_base64_is_text(value: Any, limits: Limits) -> None:
    assert str(refusal({"b64": value}, limits)) == "instances[7].b64: expected base64 text"


@pytest.mark.parametrize("value", [["QUJD"], {"b64": TEXT}, [1, 2], {"type": "Buffer", "data": [1, 2]}, {"0": 1}])
@pytest.mark.parametrize("field", ["b64", "data", "image", "image_bytes"])
def test_a_list_of_numbers_or_a_buffer_is_no_text(value: Any, field: str, limits: Limits) -> None:
    instance = {field: {"b64": value}} if field in ("image", "image_bytes") else {field: value}
    said = str(refusal(instance, limits))
    assert said.endswith(': expected base64 text (a list of numbers, or Node\'s {"type": "Buffer"}, is none)')


IMAGE = encoded(gradient(), "PNG")
IMAGE_TEXT = base64_text(IMAGE)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (IMAGE_TEXT.encode(), "base64"),
        (f'"{IMAGE_TEXT}"'.encode(), "base64"),
        (f"b'{IMAGE_TEXT}'".encode(), "base64"),
        (base64.encodebytes(IMAGE), "base64"),
        (b"\n" + IMAGE_TEXT.encode(), "base64"),
        (base64.urlsafe_b64encode(encoded(gradient(), "JPEG")), "base64"),
        (base64.b64encode(encoded(gradient(), "TIFF")), "base64"),
        (b"AAAAGGZ0eXBoZWljAAAAAG1pZjFoZWljAAABpW1ldGEAAAAAAAAAIWhkbHIAAAAA", "base64"),  # HEIC
        (f"data:image/png;base64,{IMAGE_TEXT}".encode(), "a data: URI"),
        (f'"DATA:;base64,{IMAGE_TEXT}"'.encode(), "a data: URI"),
        (b"data:image/svg+xml;utf8,<svg/>", "a data: URI"),
    ],
)
def test_text_where_bytes_are_expected_is_told(content: bytes, kind: str, limits: Limits) -> None:
    expected = 'instead of the bytes of an image; base64 belongs in JSON, {"instances": [{"b64": "…"}]}'
    assert str(refusal(content, limits)) == f"instances[7]: {kind} {expected}"
    once = f"instances[7].b64: it decodes to {kind}: encode the image's bytes once"
    assert str(refusal({"b64": base64_text(content)}, limits)) == once


@pytest.mark.parametrize(
    "content", [b'{"instances": []}', b'\xef\xbb\xbf {"type": "Buffer", "data": []}', b"[[0, 1]]", b"{}"]
)
def test_json_where_bytes_are_expected_is_told(content: bytes, limits: Limits) -> None:
    expected = "JSON instead of the bytes of an image: send it as application/json"
    assert str(refusal(content, limits)) == f"instances[7]: {expected}"


@pytest.mark.parametrize(
    "content", [b"garbage", b"no picture", b"x" * 1000, b"[", b"{not json}", b"GIF89aAAAA", b"BM" * 50]
)
def test_what_may_be_anything_is_not_called_text(content: bytes, limits: Limits) -> None:
    assert locate(content, limits).content == content


@pytest.mark.parametrize("instance", [{"b64": ""}, {"b64": "data:image/png;base64,"}, {"b64": "  "}, b""])
def test_no_bytes_are_no_image(instance: Any, limits: Limits) -> None:
    assert isinstance(refusal(instance, limits), NotAnImage)


@pytest.mark.parametrize("over", [0, 1, 2, 3])
def test_the_limit_of_bytes_is_exact(over: int, limits: Limits) -> None:
    limits = replace(limits, max_image_bytes=1000)
    image = bytes(1000 + over)
    for instance in (image, {"b64": base64_text(image)}):
        if over:
            error = refusal(instance, limits)
            assert isinstance(error, TooLarge)
            assert (error.status, str(error).split(": ")[1]) == (413, "more than 1000 bytes")
        else:
            assert locate(instance, limits).content == image


def test_a_url_is_refused_unless_hosts_are_allowed(limits: Limits) -> None:
    error = refusal({"url": "https://example.org/cat.jpg"}, limits)
    assert isinstance(error, UrlNotAllowed)
    assert (error.status, str(error)) == (
        403,
        "instances[7].url: not fetched: this server fetches no images by URL",
    )
