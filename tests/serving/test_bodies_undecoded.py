"""What the front door passes on, sent to a real TorchServe without it: bodies as bytes, with their types."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text, encoded, gradient

pytestmark = pytest.mark.slow

STAGES = re.compile(r"batch=(\d+) queue=(\d+\.\d) decode=\d+\.\d forward=\d+\.\d")
URL_ENCODED = "application/x-www-form-urlencoded"
FORM = "multipart/form-data; boundary=x"
AT_ONCE = 16  # batchSize


@pytest.fixture(scope="module")
def behind(light_directory: Path) -> Iterator[TorchServe]:
    """TorchServe as the door sees it."""
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment={"FRONT_DOOR": "none"}) as running:
        yield running


@pytest.fixture(scope="module")
def image(photographs: list[Path]) -> bytes:
    return photographs[0].read_bytes()


def ask(server: TorchServe, body: bytes, told: str, **headers: str) -> httpx.Response:
    """told: the client's content type, as the door passes it on."""
    passed = {"Content-Type": "application/octet-stream", "x-client-content-type": told}
    passed |= {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.predict_url, content=body, headers=passed, timeout=120, trust_env=False)


def form(*parts: tuple[str, bytes]) -> bytes:
    """parts: each (what follows `form-data` in its header, content)."""
    head = "--x\r\nContent-Disposition: form-data; {}\r\n\r\n"
    return b"".join(head.format(said).encode() + content + b"\r\n" for said, content in parts) + b"--x--\r\n"


def lengths(response: httpx.Response) -> list[int]:
    """How many classes each prediction has."""
    assert response.status_code == 200, response.text
    return [len(prediction["classes"]) for prediction in response.json()["predictions"]]


def test_the_clients_own_type_decides(behind: TorchServe, image: bytes) -> None:
    """Empty if it sent none: if that got lost on the way, JSON would be taken for the bytes that the door declares."""
    asked = json.dumps({"instances": [{"b64": base64_text(image)}], "parameters": {"top_k": 2}}).encode()
    for told in ("", URL_ENCODED, "text/plain", "application/json", "application/vnd.x+json; charset=utf-8"):
        assert lengths(ask(behind, asked, told)) == [2]
    for told in ("", URL_ENCODED, "image/jpeg", "application/octet-stream", "forged, forged;;="):
        assert lengths(ask(behind, image, told)) == [5]
    refused = ask(behind, image, "video/mp4")
    assert (refused.status_code, refused.json().keys()) == (415, {"error"})
    assert STAGES.fullmatch(refused.headers["x-stages"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [("top_k=3", 3), ("a=b", 5), ("top_k=3&a=b", 3), ("topk=3", None), ("top_k=x", None), ("top_k=3&top-k=3", None)],
)
def test_without_the_door_top_k_is_a_field_beside_the_body(
    behind: TorchServe, image: bytes, query: str, expected: int | None
) -> None:
    """Only at /invocations: TorchServe passes nothing on from the URL of a KServe path."""
    url = f"{behind.predict_url.removesuffix(f'/v1/models/{MODEL_NAME}:predict')}/invocations?{query}"
    answers = [
        httpx.post(url, content=image, headers={"Content-Type": "image/jpeg"}, timeout=120, trust_env=False),
        httpx.post(url, files={"data": image}, timeout=120, trust_env=False),
    ]
    for answer in answers:
        if expected:
            assert lengths(answer) == [expected]
        else:
            assert (answer.status_code, answer.json()["error"][:7]) == (400, "top_k: ")


def test_without_the_door_the_top_k_of_a_form_is_a_field_too(behind: TorchServe, image: bytes) -> None:
    for name, expected in (("top_k", [3]), ("topk", None)):
        url, files, fields = behind.predict_url, {"data": image}, {name: "3"}
        answer = httpx.post(url, files=files, data=fields, timeout=120, trust_env=False)
        assert lengths(answer) == expected if expected else answer.status_code == 400


def test_forms_arrive_whole(behind: TorchServe, image: bytes) -> None:
    file = 'name="data"; filename="a.jpg"'
    assert lengths(ask(behind, form((file, image), (file, image), ('name="top_k"', b"3")), FORM)) == [3, 3]
    asked = json.dumps({"instances": [{"b64": base64_text(image)}], "parameters": {"top_k": 2}}).encode()
    assert lengths(ask(behind, form(('name="data"', asked)), FORM)) == [2]
    refused = ask(behind, form((file, image), (file, b"forged")), FORM)
    assert (refused.status_code, refused.json()["error"].partition(" (")[0]) == (400, "data[1]: not an image")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"a=%f", URL_ENCODED),
        (b"discount=100%", URL_ENCODED),
        (b"a=%\x1b[31mforged", URL_ENCODED),
        (b"a=%zz" + b"\x01" * 1_000_000, URL_ENCODED),
        (b"a&" * 500_000, URL_ENCODED),
        (b"forged", "multipart/form-data"),
        (b"--x\r\nforged", FORM),
        (form(('name="data"; filename="a"\r\nContent-Transfer-Encoding: base64', b"YWJj")), FORM),
    ],
)
def test_what_torchserve_could_not_decode_is_refused_by_the_handler(behind: TorchServe, body: bytes, told: str) -> None:
    response = ask(behind, body, told)
    assert (response.status_code, response.json()["error"].partition(": ")[0]) == (400, "body")
    assert len(response.content) < 1000
    assert b"forged" not in response.content
    assert STAGES.fullmatch(response.headers["x-stages"])


def test_the_wait_counts_from_when_the_door_had_the_head(behind: TorchServe, image: bytes) -> None:
    """So headers arrive as text: bytes would not be a time."""
    waited = []
    for start in (f"t={time.time() - 3600:.3f}", f"t={time.time() + 3600:.3f}", "forged"):
        found = STAGES.fullmatch(ask(behind, image, "", x_request_start=start).headers["x-stages"])
        assert found
        waited.append(float(found[2]))
    assert waited[0] > 3_599_000
    assert waited[1:] == [0.0, 0.0]


def test_a_batch_of_the_longest_answers_is_answered_whole(behind: TorchServe) -> None:
    """10,000 classes each, 13 MB together. TorchServe decodes them again from the start at every read."""
    small = {"b64": base64_text(encoded(gradient(8, 8)))}
    asked = json.dumps({"instances": [small] * 10, "parameters": {"top_k": 1000}}).encode()
    workers = {process.pid for process in behind.processes()}
    with ThreadPoolExecutor(AT_ONCE * 2) as pool:
        answers = list(pool.map(lambda _: ask(behind, asked, "application/json"), range(AT_ONCE * 2)))
    assert [lengths(answer) for answer in answers] == [[1000] * 10] * (AT_ONCE * 2)
    assert {process.pid for process in behind.processes()} == workers
    more = json.dumps({"instances": [small] * 11, "parameters": {"top_k": 1000}}).encode()
    refused = ask(behind, more, "application/json")
    assert (refused.status_code, refused.json()["error"][:45]) == (
        413,
        "parameters.top_k: more than 10000 classes for",
    )
