"""Every form of an instance, and every way in which one can be wrong."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from reliability.pictures import base64_text
from vision.errors import MalformedField, NotAnImage, RequestError, TooLarge, UrlNotAllowed
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
        ({"b64": "data:image/svg+xml;base64," + TEXT}, "instances[7].b64"),
        ({"image": {"b64": "data:image/jpeg;base64," + TEXT}}, "instances[7].image.b64"),
        ({"b64": base64.encodebytes(BYTES).decode()}, "instances[7].b64"),  # with line breaks
        ({"b64": TEXT, "key": "mine", "label": 3}, "instances[7].b64"),  # what others add is theirs
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


@pytest.mark.parametrize("value", [None, 5, ["QUJD"], {"b64": TEXT}])
def test_base64_is_text(value: Any, limits: Limits) -> None:
    assert str(refusal({"b64": value}, limits)) == "instances[7].b64: expected base64 text"


@pytest.mark.parametrize(
    "text",
    [
        "QUJ",
        "QUJDR",
        "Q===",
        "-_-_",
        "QUJD!",
        "ÄÖÜß",
        "\ud800abc",
        "QU\0JD",
        "data:text/plain;base64,QUJD",
        "data:image/png,QUJD",
    ],
)
def test_what_is_not_base64_is_refused(text: str, limits: Limits) -> None:
    error = refusal({"b64": text}, limits)
    assert isinstance(error, MalformedField)
    assert str(error) == "instances[7].b64: not base64 (standard alphabet, with padding)"


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
    assert (error.status, str(error)) == (403, "instances[7].url: not fetched: this server fetches no images by URL")
