"""No request that the front door and TorchServe could read differently gets through.

In the first tests, the server behind the door accepts only unambiguous requests; in the last one it is TorchServe.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.serving.torchserve import TorchServe
from reliability.smuggling import BODY, INSIDE, Case, Http2Case, corpus, http2_corpus
from tests.door.conftest import Recorded
from tests.door.recorder import answer_to
from tests.door.wire import CONTINUATION, HEADERS, Answer, Http2, Wire, asked, frame, head, packed, post

pytestmark = pytest.mark.slow

CASES = corpus()
HTTP2_CASES = http2_corpus()


@pytest.fixture(scope="module")
def answers(recorded: Recorded) -> dict[str, list[Answer]]:
    """All cases, several at a time: a refused connection takes a second to end."""

    def sent(case: Case) -> list[Answer]:
        with Wire(recorded.port) as wire:
            wire.send(case.sent)
            answers = [wire.answer() for _ in case.statuses]
            if answers[-1].headers.get("connection") == "close":
                assert wire.ended()
            return answers

    with ThreadPoolExecutor(32) as pool:
        return dict(zip(CASES, pool.map(sent, CASES.values()), strict=True))


@pytest.fixture(scope="module")
def http2_answers(recorded: Recorded) -> dict[str, bytes | None]:
    usual: dict[bytes, bytes | None] = dict(head())

    def sent(case: Http2Case) -> bytes | None:
        with Http2(recorded.port) as http:
            http.open(1, [(field, value) for field, value in (usual | case.fields).items() if value is not None])
            http.data(1, case.body)
            return http.ends(1)

    with ThreadPoolExecutor(32) as pool:
        return dict(zip(HTTP2_CASES, pool.map(sent, HTTP2_CASES.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_answer_is_that_of_the_request_that_it_is_for(name: str, answers: dict[str, list[Answer]]) -> None:
    case, came = CASES[name], answers[name]
    assert [answer.status for answer in came] == case.statuses
    assert [answer.body for answer in came if answer.status == 200] == [answer_to(body) for body in case.bodies]
    for answer in came:
        if answer.status != 200:
            assert list(json.loads(answer.body)) == ["error"]


@pytest.mark.parametrize("name", HTTP2_CASES)
def test_each_answer_of_http2_too(name: str, http2_answers: dict[str, bytes | None]) -> None:
    case, came = HTTP2_CASES[name], http2_answers[name]
    if case.bodies:
        assert came == answer_to(case.bodies[0])
    else:
        assert came is None or list(json.loads(came)) == ["error"]


def test_nothing_else_got_behind_the_door(
    recorded: Recorded, answers: dict[str, list[Answer]], http2_answers: dict[str, bytes | None]
) -> None:
    """And nothing in it is ambiguous: see tests/door/recorder.py."""
    assert recorded.torchserve.doubts == []
    expected = [body for case in CASES.values() for body in case.bodies]
    expected += [body for http2_case in HTTP2_CASES.values() for body in http2_case.bodies]
    assert Counter(request.body for request in recorded.torchserve.requests if request.identity != "its-own") == (
        Counter(expected)
    )


def test_the_door_says_what_a_client_calls_its_body_and_nothing_else_of_its_head(recorded: Recorded) -> None:
    lines = (
        "Content-Type: multipart/form-data; boundary=x",
        "X-Request-Id: its-own",
        "Cookie: a=b",
        "Authorization: Bearer x",
        "X_Y: z",
    )
    assert asked(recorded.port, post(BODY, *lines)).status == 200
    (request,) = recorded.torchserve.of("its-own")
    assert request.headers[b"x-client-content-type"] == b"multipart/form-data; boundary=x"
    assert request.headers[b"content-type"] == b"application/octet-stream"
    assert not {b"cookie", b"authorization", b"x_y"} & request.headers.keys()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("application/json; charset=utf-8", b"application/json"),
        ("IMAGE/JPEG", b"image/jpeg"),
        ("application/x-www-form-urlencoded", b"application/octet-stream"),
        ("application/json, multipart/form-data; boundary=x", b"application/json"),
        ("multipart/form-data; boundary=application/json", b"application/octet-stream"),
        ("image/" + "x" * 100, b"application/octet-stream"),
        ("image/x multipart/form-data; boundary=x", b"image/x"),
        ("", b"application/octet-stream"),
    ],
)
def test_torchserve_hears_of_json_of_an_image_or_of_bytes(said: str, heard: bytes, recorded: Recorded) -> None:
    """So TorchServe decodes no form, and the handler of an older archive still recognises the body."""
    name = f"type-{abs(hash(said))}"
    assert asked(recorded.port, post(BODY, f"Content-Type: {said}", f"X-Request-Id: {name}")).status == 200
    (request,) = recorded.torchserve.of(name)
    assert request.headers[b"content-type"] == heard


def test_http2_fields_that_come_twice_or_after_a_pseudo_header(recorded: Recorded) -> None:
    before = len(recorded.torchserve.requests)
    twice = [*head(), (b"content-length", b"17"), (b"content-length", b"2")]
    late = [(b"content-type", b"image/png"), *head()]
    two_paths = [*head(), (b":path", b"/other")]
    for fields in (twice, late, two_paths):
        with Http2(recorded.port) as http:
            http.open(1, fields)
            http.data(1, BODY)
            assert http.ends(1) is None
    assert recorded.torchserve.requests[before:] == []
    assert recorded.torchserve.doubts == []


@pytest.mark.parametrize("path", ["/v1/models/alexnet", "/v1/models", "/docs"])
def test_the_status_server_hears_of_no_body(path: str, recorded: Recorded) -> None:
    """The status server reads no body, so the next request on its connection would begin with this one's."""
    start = f"GET {path} HTTP/1.1\r\nHost: x\r\n"
    with_length = f"{start}Content-Length: {len(INSIDE)}\r\n\r\n".encode() + INSIDE
    chunked = f"{start}Transfer-Encoding: chunked\r\n\r\n{len(INSIDE):x}\r\n".encode() + INSIDE + b"\r\n0\r\n\r\n"
    for request in (with_length, chunked):
        answer = asked(recorded.port, request)
        assert (answer.status, json.loads(answer.body)) == (400, {"error": "body: a GET may not have one"})
    with Http2(recorded.port) as http:
        http.open(1, head(method=b"GET", path=path.encode()))
        http.data(1, INSIDE)
        assert http.ends(1) != b"{}"
    empty = f"{start}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
    assert [asked(recorded.port, request).body for request in (empty, f"{start}\r\n".encode())] == [b"{}", b"{}"]
    assert set(recorded.status.lines) <= {f"GET {said} HTTP/1.1\r\n".encode() for said in STATUS_PATHS}


STATUS_PATHS = ("/v1/models/alexnet", "/v1/models", "/docs")

POISON = [
    name for name, case in CASES.items() if case.bodies and name.split(":")[0] in ("length", "coding", "chunk", "line")
]


def victim(top_k: int) -> bytes:
    """A request whose answer identifies it."""
    image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    body = json.dumps({"instances": [{"b64": image}], "parameters": {"top_k": top_k}}).encode()
    return post(body, "Content-Type: application/json")


def test_nobody_gets_an_answer_of_what_another_sent(server: TorchServe) -> None:
    """Each case, followed by another client, whose request TorchServe gets on the same connection."""
    port = int(server.url.rpartition(":")[2])
    for number, name in enumerate(POISON):
        case: Case = CASES[name]
        with Wire(port) as attacker, Wire(port) as other:
            attacker.send(case.sent)
            answers = [attacker.answer() for _ in case.statuses]
            assert all(400 <= answer.status < 500 for answer in answers), (name, answers)
            other.send(victim(number % 9 + 1))
            answer = other.answer()
            assert answer.status == 200, (name, answer)
            assert len(json.loads(answer.body)["predictions"][0]["classes"]) == number % 9 + 1, name


def test_a_head_that_never_ends_is_cut_off(recorded: Recorded) -> None:
    """CONTINUATION without end (CVE-2024-27316 and its like)."""
    with Http2(recorded.port) as http:
        http.send(frame(HEADERS, 0, 1, packed(head())))
        for number in range(20_000):  # 320 MB
            if http.gone:
                break
            http.send(frame(CONTINUATION, 0, 1, packed([(b"x%d" % number, b"y" * 4000)] * 4)))
        assert http.gone
