"""Whatever a client sends is either understood or refused with its place. Nothing else ever happens."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from entry import Handler
from reliability.pictures import base64_text, encoded, gradient
from tests.handler.conftest import Worker
from tests.support.rows import elements, row
from vision.errors import RequestError
from vision.fetch.image_url import UrlFetcher
from vision.image.source import ALL_FIELDS, locate_image
from vision.protocol import protocols
from vision.protocol.request import Request
from vision.protocol.v1 import error_body, instances_of_envelope, parse_body
from vision.worker.settings import Limits

# Requests per kind: a few in the full test run, thousands on demand.
REQUESTS = int(os.environ.get("REQUESTS", "400"))
THROUGH_THE_HANDLER = int(os.environ.get("REQUESTS", "100"))

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
# A URL of example.org would be fetched, and no test may contact another machine.
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
@settings(max_examples=REQUESTS, deadline=None)
@given(bodies | values)
def test_any_json(body: Any) -> None:
    check(parse_body, body, "application/json")
    check(parse_body, json.dumps(body).encode(), "application/json")
    check(instances_of_envelope, body)


@settings(max_examples=REQUESTS, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(["application/json", "image/png", "", "text/plain", "Ä"]))
def test_any_bytes(body: bytes, content_type: str) -> None:
    check(parse_body, body, content_type)


@pytest.mark.parametrize(
    "body", [b'{"a": ' * 50_000, b"[" * 5_000_000, b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_deep_nesting(body: bytes) -> None:
    check(parse_body, body, "application/json")


# --- KServe v2 --------------------------------------------------------------------------------------------------------

V2_PLACE = re.compile(
    r"(body|id|top_k|content-type|Inference-Header-Content-Length|instances"
    r"|parameters(\.(top_k|class|form|binary_data_output))?"
    r"|outputs(\[\d\](\.name|\.parameters(\.binary_data)?)?)?"
    r"|inputs(\[0\](\.(name|datatype|shape|parameters(\.binary_data_size)?|contents|data(\[\d\])?"
    r"|contents\.(bytes|uint)_contents(\[\d\])?))?)?"
    r"|raw_input_contents(\[0\](\[\d\])?)?): \S"
)
IMAGE = encoded(gradient(3, 2), "PNG")
texts = st.sampled_from(["", "QUJD", base64_text(IMAGE), "data:image/png;base64," + base64_text(IMAGE)]) | st.text()
shapes = st.sampled_from([[1], [2], [1, 1], [2, 1], [1, 2, 3, 3], [2, 1, 1, 3], ["1"], ["1", "2", "3", "3"]])
names = st.sampled_from(["label", "index", "probability", "explained", "heat_map", "scores"])
parameter_names = st.sampled_from(
    ["top_k", "binary_data_output", "binary_data", "class", "form", "topk", "x", "priority"]
)
sizes = st.integers(-1, 200)
numbers = st.integers(-1, 300)
nested = st.just([[[[7, 8, 9]] * 3] * 2]) | st.recursive(
    st.lists(numbers, max_size=20), lambda inner: st.lists(inner, max_size=3)
)
grpc_values = st.fixed_dictionaries({"int64_param": st.sampled_from(["1", "3", "x", "0"])}) | st.fixed_dictionaries(
    {"bool_param": st.booleans()}
)
parameters = st.dictionaries(
    parameter_names,
    st.integers(0, 5) | st.booleans() | st.sampled_from(["grid", "grey"]) | grpc_values | values,
    max_size=2,
)
contents = st.fixed_dictionaries(
    {}, optional={"bytes_contents": st.lists(texts, max_size=3), "uint_contents": st.lists(numbers, max_size=20)}
)
tensors = st.fixed_dictionaries(
    {"name": st.just("images") | values, "datatype": st.sampled_from(["BYTES", "BYTES", "UINT8", "FP32"]) | values},
    optional={
        "shape": shapes | st.lists(st.integers(-1, 3), max_size=5) | values,
        "data": st.lists(texts, min_size=1, max_size=3) | nested | values,
        "parameters": st.fixed_dictionaries({"binary_data_size": sizes | values}) | parameters | values,
        "contents": contents | values,
    },
)
outputs = st.fixed_dictionaries({"name": names | values}, optional={"parameters": parameters | values})
raws = (
    st.binary(max_size=60) | st.builds(elements, st.just(IMAGE)) | st.builds(elements, st.just(IMAGE), st.just(IMAGE))
)
documents = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, min_size=1, max_size=1) | st.lists(tensors | values, max_size=3) | values},
    optional={
        "id": st.text(max_size=300) | values,
        "outputs": st.lists(outputs, max_size=4) | values,
        "parameters": parameters | values,
        "raw_input_contents": st.lists(raws.map(lambda raw: base64.b64encode(raw).decode()), max_size=2) | values,
    },
)
lengths = st.none() | st.sampled_from(["0", "-1", "x", "9" * 30, "10"])
Asked = tuple[bytes, dict[str, str]]  # a body, and its headers

PIXELS = [7, 8, 9] * 6
FILES, PAIR = elements(IMAGE), elements(IMAGE, IMAGE)
# (protocol, tensor, other fields, bytes after the JSON) of valid requests.
SOUND: list[tuple[str, dict[str, Any], dict[str, Any], bytes]] = [
    ("v2", {"datatype": "BYTES", "shape": [1], "data": [base64_text(IMAGE)]}, {"id": "7"}, b""),
    ("v2", {"datatype": "UINT8", "shape": [1, 2, 3, 3], "data": PIXELS}, {}, b""),
    ("v2", {"datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(PAIR)}}, {}, PAIR),
    ("v2", {"datatype": "UINT8", "shape": [1, 2, 3, 3], "parameters": {"binary_data_size": 18}}, {}, bytes(PIXELS)),
    ("grpc", {"datatype": "BYTES", "shape": ["1"]}, {"raw_input_contents": [base64_text(FILES)]}, b""),
    ("grpc", {"datatype": "BYTES", "shape": ["1"], "contents": {"bytes_contents": [base64_text(IMAGE)]}}, {}, b""),
    ("grpc", {"datatype": "UINT8", "shape": ["1", "2", "3", "3"], "contents": {"uint_contents": PIXELS}}, {}, b""),
]


@st.composite
def v2_questions(draw: st.DrawFn) -> Asked:
    """Valid requests, possibly with something changed, or arbitrary ones."""
    protocol, tensor, beside, behind = draw(st.sampled_from(SOUND))
    tensor, document = {"name": "images", **tensor}, {**beside}
    document["inputs"] = [tensor]
    changes: list[tuple[dict[str, Any], Any]] = [(tensor, tensors), (document, documents)]
    for changed, strategy in changes:
        if draw(st.booleans()):
            others = draw(strategy)
            if name := draw(st.sampled_from(["", *sorted(others)])):
                changed[name] = others[name]
        if draw(st.integers(0, 5)) == 0:
            changed.pop(draw(st.sampled_from(sorted(changed))))
    text = json.dumps(document).encode()
    headers = {"x-client-protocol": protocol, "explain": draw(st.sampled_from(["False", "False", "True"]))}
    length = str(len(text)) if behind else None
    if draw(st.integers(0, 5)) == 0:
        behind = draw(raws)
    if draw(st.integers(0, 9)) == 0:
        length = draw(lengths)
    if draw(st.integers(0, 9)) == 0:
        del headers["x-client-protocol"]
    if length is not None:
        headers["Inference-Header-Content-Length"] = length
    return draw(st.binary(max_size=60)) if draw(st.integers(0, 19)) == 0 else text + behind, headers


@pytest.mark.slow
@settings(max_examples=REQUESTS, deadline=None)
@given(v2_questions())
def test_any_request_of_v2(question: Asked) -> None:
    body, headers = question
    told = {name.replace("-", "_"): value for name, value in headers.items() if name != "explain"}
    try:
        asked = row(body, told.pop("x_client_protocol", None), headers["explain"] == "True", **told)
        request = protocols.parse(asked, LIMITS)
        assert len(request.instances) == len(request.places) <= LIMITS.max_instances
        assert 1 <= request.top_k <= LIMITS.max_top_k
        for instance, place in zip(request.instances, request.places, strict=True):
            assert locate_image(instance, place, LIMITS.max_image_bytes, FETCHER).place == place
    except RequestError as error:
        assert error.status in (400, 413, 415)
        assert V2_PLACE.match(str(error)) or PLACE.match(str(error)), str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 300


GOOD: Asked = (json.dumps({"instances": [{"b64": base64_text(IMAGE)}]}).encode(), {"x-client-protocol": "v1"})


@pytest.fixture(scope="module")
def lone_worker(handler: Handler, model_dir: Path, config: dict[str, Any]) -> Worker:
    return Worker(handler, model_dir, config)


@pytest.fixture(scope="module")
def expected(lone_worker: Worker) -> tuple[int, str, bytes]:
    """The answer to GOOD on its own."""
    (answer,) = lone_worker.raw([{"body": bytearray(GOOD[0])}], [GOOD[1]])
    return answer


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=THROUGH_THE_HANDLER, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(question=v2_questions())
def test_beside_any_request_of_v2_a_good_one_is_answered(
    lone_worker: Worker, expected: tuple[int, str, bytes], question: Asked
) -> None:
    """The other request is answered or refused: nothing counts as our fault."""
    rows = [{"body": bytearray(body)} for body, _ in (GOOD, question)]
    beside, (status, _, answer) = lone_worker.raw(rows, [GOOD[1], question[1]])
    assert beside == expected
    event(str(status))
    assert status in (200, 400, 413, 415), answer
    if status != 200:
        assert json.loads(answer).keys() == {"error"}
