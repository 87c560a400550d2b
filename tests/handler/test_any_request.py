"""Whatever a client sends: a request that was understood, or a refusal that names its place. Never anything else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import RequestError
from vision.fetch.image_url import UrlFetcher
from vision.image.source import ALL_FIELDS, locate_image
from vision.protocol.request import Request
from vision.protocol.v1 import error_body, instances_of_envelope, parse_body
from vision.worker.settings import Limits

LIMITS = Limits(
    max_image_bytes=60,
    max_pixels=100,
    max_request_pixels=200,
    max_instances=3,
    max_top_k=1000,
    default_top_k=5,
    max_classes=2000,
)
FETCHER = UrlFetcher(allowed_hosts=["example.org"], timeout_s=1, max_bytes=60)
PLACE = re.compile(r"(body|instances(\[\d\])?(\.(b64|data|url|image|image_bytes)(\.b64)?)?|parameters(\.top_k)?): \S")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("QUJD")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
# A URL of example.org would be fetched: no test of ours asks another machine anything.
fields = st.sampled_from([field for field in ALL_FIELDS if field != "url"])
images = st.dictionaries(fields, values | st.fixed_dictionaries({"b64": values}), max_size=2)
bodies = st.fixed_dictionaries(
    {}, optional={"instances": st.lists(images | values, max_size=5) | values, "parameters": values}
)


def check(parse: Any, *arguments: Any) -> None:
    try:
        request = parse(*arguments, LIMITS)
        assert isinstance(request, Request)
        assert len(request.instances) == len(request.places) <= LIMITS.max_instances
        assert 1 <= request.top_k <= LIMITS.max_top_k
        for instance, place in zip(request.instances, request.places, strict=True):
            image = locate_image(instance, place, LIMITS.max_image_bytes, FETCHER)
            assert isinstance(image.source, bytes)
            assert 0 < len(image.source) <= LIMITS.max_image_bytes
            assert image.place.startswith(place)
    except RequestError as error:
        assert error.status in (400, 413)
        assert PLACE.match(str(error)), str(error)
        assert str(error).isprintable()
        assert json.loads(error_body(error)) == {"error": str(error)}


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(bodies | values)
def test_any_json(body: Any) -> None:
    check(parse_body, body, "application/json")
    check(parse_body, json.dumps(body).encode(), "application/json")
    check(instances_of_envelope, body)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(["application/json", "image/png", "", "text/plain", "Ä"]))
def test_any_bytes(body: bytes, content_type: str) -> None:
    check(parse_body, body, content_type)


@pytest.mark.parametrize(
    "body", [b'{"a": ' * 50_000, b"[" * 5_000_000, b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_deep_nesting(body: bytes) -> None:
    check(parse_body, body, "application/json")
