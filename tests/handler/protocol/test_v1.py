"""Bodies in, requests out; predictions and errors in, bodies out."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from vision.errors import RequestError, TooLarge
from vision.fetch.image_url import UrlFetcher
from vision.image.source import locate_image
from vision.protocol import protocols
from vision.protocol import v1 as kserve_v1
from vision.protocol.answer import Answer, Explanation, Prediction, ScoredClass
from vision.protocol.request import Request, Verb, Wish
from vision.worker.settings import Limits

ONE = {"instances": [{"b64": "AAAA"}]}
OFF = UrlFetcher(allowed_hosts=[], timeout_s=1, max_bytes=1000)


def refusal(body: Any, limits: Limits, content_type: str = "application/json") -> RequestError:
    with pytest.raises(RequestError) as caught:
        kserve_v1.parse_body(body, content_type, limits)
    return caught.value


def test_json_bytes_and_json_that_torchserve_has_parsed_give_the_same_request(limits: Limits) -> None:
    as_bytes = kserve_v1.parse_body(bytearray(json.dumps(ONE), "utf-8"), "application/json", limits)
    assert as_bytes == kserve_v1.parse_body(ONE, "application/json", limits)
    assert as_bytes == Request(instances=[{"b64": "AAAA"}], places=["instances[0]"], top_k=5)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "IMAGE/WEBP", "application/octet-stream"])
def test_an_image_body_is_one_instance(content_type: str, limits: Limits) -> None:
    request = kserve_v1.parse_body(bytearray(b"{not json}"), content_type, limits)
    assert request == Request(instances=[b"{not json}"], places=["body"], top_k=5)


def test_without_a_content_type_the_first_byte_decides(limits: Limits) -> None:
    assert kserve_v1.parse_body(b"\xff\xd8\xff", "", limits).instances == [b"\xff\xd8\xff"]
    assert kserve_v1.parse_body(b'  {"instances": [1]}', "", limits).instances == [1]


def test_the_file_of_a_form_is_an_image(limits: Limits) -> None:
    assert kserve_v1.parse_row({"data": bytearray(b"\xff\xd8")}, "", limits).instances == [b"\xff\xd8"]


@pytest.mark.parametrize("row", [{}, {"text": bytearray(b"x")}, {'{"instances"': bytearray(b"")}, {"data": "text"}])
def test_any_other_form_is_refused_with_what_is_expected(row: dict[str, Any], limits: Limits) -> None:
    with pytest.raises(RequestError, match=r"^body: expected JSON .* or an image") as caught:
        kserve_v1.parse_row(row, "", limits)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "body: empty"),
        (b"  \n", "body: empty"),
        (b'{"instances": [', "body: not JSON (line 1, column 16: Expecting value)"),
        (b"\xff\xd8\xff\xe0", "body: not JSON (not UTF-8); to send an image, set Content-Type: image/*"),
        (b"[" * 5_000, "body: not readable JSON (nested too deeply)"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "body: not readable JSON (a number is too long)"),
        (b"[]", 'body: expected a JSON object {"instances": […]}'),
        (b"null", 'body: expected a JSON object {"instances": […]}'),
        (b'"text"', 'body: expected a JSON object {"instances": […]}'),
        (b"{}", "instances: expected a list of at least one instance"),
        (
            b'{"inputs": [1]}',
            "inputs: this is a KServe v2 request: send it to /v2/models/NAME/infer",
        ),
        (
            b"/9j/4AAQSkZJRgABAQ",
            'body: base64 alone is not JSON; expected a JSON object {"instances": […]}',
        ),
        (
            b"data:image/png;base64,iVBORw0KGgo=",
            'body: a data: URI alone is not JSON; expected a JSON object {"instances": […]}',
        ),
        (b'{"instances": []}', "instances: expected a list of at least one instance"),
        (b'{"instances": null}', "instances: expected a list of at least one instance"),
        (b'{"instances": {"b64": ""}}', "instances: expected a list of at least one instance"),
        (b'{"instances": [1], "parameters": 5}', "parameters: expected an object"),
    ],
)
def test_a_malformed_body_is_400_and_says_where(body: bytes, sentence: str, limits: Limits) -> None:
    error = refusal(body, limits)
    assert (error.status, str(error)) == (400, sentence)


@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_top_k(top_k: int, limits: Limits) -> None:
    assert kserve_v1.parse_body(ONE | {"parameters": {"top_k": top_k}}, "", limits).top_k == top_k


@pytest.mark.parametrize("parameters", [None, {}])
def test_top_k_is_five_by_default(parameters: Any, limits: Limits) -> None:
    assert kserve_v1.parse_body(ONE | {"parameters": parameters}, "", limits).top_k == 5


@pytest.mark.parametrize("top_k", [0, -1, 1001, 5.0, "5", True, None, [5], float("nan"), 10**400])
def test_any_other_top_k_is_refused(top_k: Any, limits: Limits) -> None:
    error = refusal(ONE | {"parameters": {"top_k": top_k}}, limits)
    assert (error.status, str(error)) == (400, "parameters.top_k: expected an integer from 1 to 1000")


def test_as_many_instances_as_allowed_and_not_one_more(limits: Limits) -> None:
    most = limits.max_instances
    assert len(kserve_v1.parse_body({"instances": [0] * most}, "", limits).instances) == most
    error = refusal({"instances": [{}] * (most + 1)}, limits)
    assert isinstance(error, TooLarge)
    assert (error.status, str(error)) == (413, f"instances: more than {most} instances")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("repeated", ['"",', "[],", '{"":0},', "[[", '{"a":'])
def test_a_body_full_of_values_is_refused_unread(repeated: str, encoding: str, limits: Limits) -> None:
    text = '{"instances": [' + repeated * 10_001
    error = refusal(text.encode(encoding), limits)
    assert (error.status, str(error)) == (413, "body: more than 10000 values")


def test_an_image_that_is_called_json_is_not_counted(limits: Limits) -> None:
    error = refusal(b"\xff\xd8" + b"[{," * 10_000, limits)
    assert (error.status, str(error)) == (
        400,
        "body: not JSON (not UTF-8); to send an image, set Content-Type: image/*",
    )


@pytest.mark.parametrize("breaks", ["\n", "\r\n"])
def test_base64_in_millions_of_lines_is_read_in_bounded_memory(breaks: str, limits: Limits) -> None:
    """With a line break after every two characters, 16 MiB took 371 MiB more."""
    text = breaks.join(["QU", "JD"] * 500_000)
    body = bytearray(json.dumps({"instances": [{"b64": text}]}), "ascii")
    tracemalloc.start()
    try:
        (instance,) = kserve_v1.parse_body(body, "application/json", limits).instances
        located = locate_image(instance, "instances[0]", limits.max_image_bytes, OFF)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert located.source == b"ABC" * 500_000
    assert peak < 4 * len(body)


def test_bodies_of_answers_are_compact_json() -> None:
    body = kserve_v1.response_body(Answer([Prediction([ScoredClass(1, "n1", "drake’s", 0.123456789)])]))
    entry = {"index": 1, "wnid": "n1", "label": "drake’s", "probability": 0.123457}
    assert json.loads(body) == {"predictions": [{"classes": [entry]}]}
    assert b'"index":1,' in body
    assert json.loads(kserve_v1.error_body(RequestError("instances[2].b64", "…"))) == {"error": "instances[2].b64: …"}


def test_a_class_without_a_wordnet_id_has_none() -> None:
    body = kserve_v1.response_body(Answer([Prediction([ScoredClass(1, None, "猫", 1.0)])]))
    assert json.loads(body)["predictions"][0]["classes"] == [{"index": 1, "label": "猫", "probability": 1.0}]
    assert body.isascii()


@pytest.mark.parametrize("probability", [1.0, 0.5, 1 / 3, 0.000123456789, 1.23456789e-05, 1.1754944e-38, 1.4e-45, 0.0])
@pytest.mark.parametrize("label", ["a", "猫" * 250, "🐈" * 250, '"\\\n'])
@pytest.mark.parametrize("wnid", [None, "n02123045"])
def test_it_is_known_how_long_an_answer_can_be(probability: float, label: str, wnid: str | None) -> None:
    classes = [(None, "b"), (wnid, label)]
    for index, (its_id, its_label) in enumerate(classes):
        one, two = (
            len(kserve_v1.response_body(Answer([Prediction([ScoredClass(index, its_id, its_label, probability)] * n)])))
            for n in (1, 2)
        )
        assert two - one <= kserve_v1.class_bytes(classes)


def test_who_asks_for_more_classes_than_there_are_gets_them_all(limits: Limits) -> None:
    """Limits apply to what is answered, not to what is asked; but an invalid value is still refused."""
    of_five = replace(limits, classes=5)
    for asked, given in ((1, 1), (5, 5), (6, 5), (1000, 5)):
        many = {"instances": ONE["instances"] * 64, "parameters": {"top_k": asked}}
        assert kserve_v1.parse_body(many, "", of_five).top_k == given
        assert kserve_v1.parse_body(b"\xff\xd8\xff", "image/jpeg", of_five, str(asked)).top_k == given
        assert kserve_v1.parse_row({"data": b"an image", "top_k": str(asked)}, "", of_five).top_k == given
    assert kserve_v1.parse_body(ONE, "", replace(limits, classes=2)).top_k == 2  # instead of the default of five
    assert kserve_v1.instances_of_envelope(ONE["instances"], replace(limits, classes=1)).top_k == 1
    error = refusal(ONE | {"parameters": {"top_k": 1001}}, of_five)
    assert (error.status, str(error)) == (400, "parameters.top_k: expected an integer from 1 to 1000")


def test_the_bound_of_all_classes_together_is_exact(limits: Limits) -> None:
    many = {"instances": ONE["instances"] * 64, "parameters": {"top_k": 1000}}
    assert kserve_v1.parse_body(many, "", replace(limits, classes=156)).top_k == 156
    error = refusal(many, replace(limits, classes=157))
    sentence = "parameters.top_k: more than 10000 classes for all instances together"
    assert (error.status, str(error)) == (413, sentence)


@pytest.mark.parametrize("head", [{"inputs": []}, {"id": "1", "inputs": []}])
@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain"])
@pytest.mark.parametrize("behind", [b"\4\0\0\0\xff\xd8\xff\xe0", b"\4\0\0\0QUJD"])
def test_v2_with_bytes_behind_its_json_is_told_as_v2(
    head: dict[str, Any], content_type: str, behind: bytes, limits: Limits
) -> None:
    """As sent by tritonclient, without a content type."""
    body = json.dumps(head, separators=(",", ":")).encode() + behind
    error = refusal(body, limits, content_type)
    assert (error.status, str(error)) == (
        400,
        "inputs: this is a KServe v2 request: send it to /v2/models/NAME/infer",
    )


def test_an_explanation_stands_beside_the_predictions() -> None:
    tabby = ScoredClass(281, "n02123045", "tabby", 0.409711111)
    explanations = [
        Explanation(tabby, "overlay", "image/jpeg", b"\xff\xd8\xff"),
        Explanation(tabby, "grid", "application/json", [[0.0, 1.0]]),
    ]
    request = Request([], [], 1, Verb.EXPLAIN, Wish())
    response = protocols.encode(request, Answer([Prediction([tabby])] * 2, explanations))
    shown = {"index": 281, "wnid": "n02123045", "label": "tabby", "probability": 0.409711}
    assert response.content_type == "application/json"
    assert json.loads(response.body) == {
        "predictions": [{"classes": [shown]}] * 2,
        "explanations": [
            {"class": shown, "form": "overlay", "content_type": "image/jpeg", "b64": "/9j/"},
            {"class": shown, "form": "grid", "content_type": "application/json", "grid": [[0.0, 1.0]]},
        ],
    }
