"""The number of classes: accepted where documented, refused everywhere else, never ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vision.errors import RequestError
from vision.protocol.v1 import parse_body, parse_row
from vision.worker.settings import Limits

IMAGE = {"b64": "AAAA"}
ONE = {"instances": [IMAGE]}
JPEG = b"\xff\xd8\xff" + bytes(100)
FORM = "multipart/form-data; boundary=x"
FILE = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n' + JPEG + b"\r\n"
FIELD = b'--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n2\r\n'
LIKE_IT = ["topk", "top-k", "topK", "TopK", "TOP_K", "top k", "top_n", "parameters.top_k", "parameters[top_k]"]


def refusal(body: Any, limits: Limits, asked: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        parse_body(body, "application/json", limits, asked)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(json.dumps(ONE).encode(), "application/json"), (JPEG, "image/jpeg"), (FILE + b"--x--\r\n", FORM)],
)
def test_the_address_may_ask_whatever_the_body_is(body: bytes, content_type: str, limits: Limits) -> None:
    assert parse_body(body, content_type, limits, "3").top_k == 3
    assert parse_body(body, content_type, limits, None).top_k == 5
    for wrong in ("", "0", "-1", "1001", "two", "3.0", "9" * 5000, "0x3", "+3"):
        with pytest.raises(RequestError, match=r"^top_k: expected an integer from 1 to 1000$"):
            parse_body(body, content_type, limits, wrong)


@pytest.mark.parametrize("row", [{"body": JPEG}, {"data": JPEG}])
def test_without_the_front_door_it_is_among_the_fields(row: dict[str, object], limits: Limits) -> None:
    """TorchServe puts the query string, and the parts of a form that it has decoded, next to the body."""
    assert parse_row({"top_k": bytearray(b"3"), **row}, "", limits).top_k == 3
    assert parse_row({"top_k": "3", **row}, "", limits).top_k == 3
    for name in LIKE_IT[:6]:
        with pytest.raises(RequestError, match=r"^top_k: must be spelled like this in a URL or a form; "):
            parse_row({name: bytearray(b"3"), **row}, "", limits)


def test_what_is_asked_twice_is_refused(limits: Limits) -> None:
    twice = "top_k: is given twice, in the URL and in "
    assert refusal({**ONE, "parameters": {"top_k": 3}}, limits, "3") == f"{twice}parameters"
    with pytest.raises(RequestError, match=rf"^{twice}the form$"):
        parse_body(FILE + FIELD + b"--x--\r\n", FORM, limits, "3")


@pytest.mark.parametrize("name", ["top_k", *LIKE_IT, "k"])
def test_beside_the_instances_it_is_told_where_it_belongs(name: str, limits: Limits) -> None:
    sentence = (
        'top_k: is in the wrong place: send {"instances": […], "parameters": {"top_k": 5}}, or ?top_k=5 in the URL'
    )
    assert refusal({**ONE, name: 3}, limits) == sentence


@pytest.mark.parametrize("name", ["Parameters", "params", "parameter", "config"])
@pytest.mark.parametrize("inner", ["top_k", *LIKE_IT])
def test_in_parameters_by_another_name_too(name: str, inner: str, limits: Limits) -> None:
    assert refusal({**ONE, name: {inner: 3}}, limits).startswith("top_k: is in the wrong place: send ")


@pytest.mark.parametrize(
    "added",
    [
        *({name: 3} for name in ["top_k", *LIKE_IT]),
        {"parameters": {"top_k": 3}},
        {"parameters": {"other": 3}},
        {"options": [{"top_k": 3}]},
    ],
)
def test_in_an_instance_it_is_told_that_it_is_for_all(added: dict[str, Any], limits: Limits) -> None:
    said = refusal({"instances": [IMAGE, {**IMAGE, **added}]}, limits)
    assert said.startswith("instances[1]: parameters apply to all instances: ")


@pytest.mark.parametrize("name", [*LIKE_IT, "k", "other", "max_predictions", ""])
def test_in_parameters_nothing_else_is_taken(name: str, limits: Limits) -> None:
    for parameters in ({name: 3}, {name: 3, "top_k": 3}):
        said = refusal({**ONE, "parameters": parameters}, limits)
        assert said.startswith("parameters: only top_k is accepted: ")


@pytest.mark.parametrize(
    "body",
    [
        {**ONE, "signature_name": "serving_default"},  # TF Serving's clients
        {**ONE, "id": "mine", "meta": {"k": 3, "top": 5, "stopkey": 1, "desktop_kind": 2}},
        {"instances": [{**IMAGE, "key": "mine", "top": 5, "K": [[1, 0], [0, 1]], "parameters": None}]},
    ],
)
def test_what_else_clients_add_is_theirs(body: Any, limits: Limits) -> None:
    assert parse_body(body, "application/json", limits).top_k == 5
