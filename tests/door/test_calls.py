"""Each way to call the model: what the handler receives, and that explanations do not take the places of predictions.

A server that records requests takes TorchServe's place.
"""

from __future__ import annotations

import json
import select
from contextlib import ExitStack

import pytest

from server.door import LARGE_EXPLANATIONS, SMALL_REQUEST_BYTES, WAITING_FOR_AN_EXPLANATION
from server.processors import processors
from tests.door.conftest import VERSION, Recorded
from tests.door.recorder import Request, answer_to
from tests.door.wire import Answer, Http2, Wire, asked, head, post
from tests.support.waiting import Eventually

pytestmark = pytest.mark.slow

PREDICT, EXPLAIN = b"/v1/models/alexnet:predict", b"/v1/models/alexnet:explain"
CALLS = {
    "/v1/models/alexnet:predict": (PREDICT, b"v1"),
    "/v1/models/alexnet%3Apredict?a=b": (PREDICT, b"v1"),
    "/v2/models/alexnet/infer": (PREDICT, b"v2"),
    "/v2/models/alexnet/infer?a=b": (PREDICT, b"v2"),
    f"/v2/models/alexnet/versions/{VERSION}/infer": (PREDICT, b"v2"),
    "/v1/models/alexnet:explain": (EXPLAIN, b"v1"),
    "/v1/models/alexnet%3aexplain": (EXPLAIN, b"v1"),
    "/v2/models/alexnet/explain": (EXPLAIN, b"v2"),
    f"/v2/models/alexnet/versions/{VERSION}/explain": (EXPLAIN, b"v2"),
}
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
AT_ONCE = max(1, processors() // 2)


def heard(recorded: Recorded, identity: str, request: bytes) -> Request:
    """What the handler receives."""
    answer = asked(recorded.port, request.replace(b"\r\n", f"\r\nX-Request-Id: {identity}\r\n".encode(), 1))
    assert answer.status == 200, answer
    (one,) = recorded.torchserve.of(identity)
    assert recorded.torchserve.doubts == []
    return one


@pytest.mark.parametrize("size", ["small", "large", "of unknown length"])
@pytest.mark.parametrize("path", CALLS)
def test_a_call_is_told_by_its_protocol_and_its_verb(path: str, size: str, recorded: Recorded) -> None:
    request = post(bytes(SMALL_REQUEST_BYTES + 1) if size == "large" else b"{}", path=path)
    if size == "of unknown length":
        request = request.replace(b"Content-Length: 2\r\n\r\n{}", CHUNKED)
    one = heard(recorded, f"{path.replace('%', '.').replace('?', '.')}-{size.split()[0]}", request)
    assert (one.path, one.headers[b"x-client-protocol"]) == CALLS[path]
    assert b"x-client-top-k" not in one.headers


def test_no_client_says_what_its_protocol_is(recorded: Recorded) -> None:
    one = heard(recorded, "forged", post(b"{}", "X-Client-Protocol: grpc", "Explain: True"))
    assert one.headers[b"x-client-protocol"] == b"v1"
    assert b"explain" not in one.headers


@pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "inference-header-content-length"])
def test_how_much_of_a_binary_body_is_json_is_passed_on(name: str, recorded: Recorded) -> None:
    one = heard(recorded, f"{name}-1", post(b"{}abc", f"{name}: 2", path="/v2/models/alexnet/infer"))
    assert one.headers[b"inference-header-content-length"] == b"2"
    assert one.headers[b"content-type"] == b"application/octet-stream"
    longest = heard(recorded, f"{name}-2", post(b"{}", f"{name}: {'9' * 20}", path="/v2/models/alexnet/infer"))
    assert longest.headers[b"inference-header-content-length"] == b"9" * 20


@pytest.mark.parametrize(
    "said", ["", "-1", "+2", "2.0", "0x2", "2, 2", "2\r\nInference-Header-Content-Length: 3", "9" * 21]
)
def test_what_is_no_number_there_is_refused(said: str, recorded: Recorded) -> None:
    request = post(b"{}", f"Inference-Header-Content-Length: {said}", path="/v2/models/alexnet/infer")
    answer = asked(recorded.port, request)
    assert answer.status == 400
    assert error(answer) == "inference-header-content-length: expected a number of bytes"


@pytest.mark.parametrize("path", ["/v1/models/alexnet:explain", "/v2/models/alexnet/explain"])
@pytest.mark.parametrize("query", ["class=5", "top_k=2&form=grid"])
def test_what_to_explain_is_not_passed_over_in_an_address(query: str, path: str, recorded: Recorded) -> None:
    answer = asked(recorded.port, post(b"{}", path=f"{path}?{query}"))
    assert (answer.status, error(answer)) == (400, "class and form: belong in the parameters of the JSON body")


def error(answer: Answer) -> str:
    said = json.loads(answer.body)
    assert list(said) == ["error"]
    return str(said["error"])


@pytest.mark.parametrize("path", ["/infer", "/explain", "/ready", ""])
@pytest.mark.parametrize("version", ["1", "1x2", "1.2.3", "%31.2"])
def test_another_version_is_refused_by_name(version: str, path: str, recorded: Recorded) -> None:
    whole = f"/v2/models/alexnet/versions/{version}{path}"
    request = post(b"{}", path=whole) if path in ("/infer", "/explain") else f"GET {whole} HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = asked(recorded.port, request if isinstance(request, bytes) else request.encode())
    assert (answer.status, error(answer)) == (404, f"version: only {VERSION} of alexnet is served: name it or none")


@pytest.mark.parametrize("path", ["", "/ready"])
def test_what_is_said_of_the_version_is_what_is_said_of_the_model(path: str, recorded: Recorded) -> None:
    whole = f"/v2/models/alexnet/versions/{VERSION}{path}?a=b"
    assert asked(recorded.port, f"GET {whole} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).status == 200
    assert recorded.status.lines[-1] == f"GET /v2/models/alexnet{path}?a=b HTTP/1.1\r\n".encode()


def test_torchserve_has_one_request_at_a_time_on_a_connection(recorded: Recorded, eventually: Eventually) -> None:
    """Even if clients pipeline: an old Netty queues requests on a connection without a bound."""
    before = len(recorded.torchserve.requests)
    with ExitStack() as stack:
        with recorded.torchserve.holding(b"predict"):
            wires = [stack.enter_context(Wire(recorded.port)) for _ in range(4)]
            for wire in wires:
                wire.send(post(b"{}") * 3)
            eventually(lambda: len(recorded.torchserve.requests) - before == len(wires))
            # Each request is on its own connection, with nothing queued behind it.
            assert recorded.torchserve.waiting() == [b""] * len(wires)
        for wire in wires:
            assert [wire.answer().body for _ in range(3)] == [answer_to(b"{}")] * 3


# --- Explanations have their own bounds -------------------------------------------------------------------------------


def under_way(recorded: Recorded, before: int) -> int:
    return sum(request.path == EXPLAIN for request in recorded.torchserve.requests[before:])


@pytest.mark.parametrize("path", ["/v1/models/alexnet:explain", "/v2/models/alexnet/explain"])
def test_few_explanations_are_under_way_and_predictions_pass_them(
    path: str, recorded: Recorded, eventually: Eventually
) -> None:
    """Some more may wait; another one is refused, and told when to retry."""
    places, more = AT_ONCE * (1 + WAITING_FOR_AN_EXPLANATION), 3
    before = len(recorded.torchserve.requests)
    with ExitStack() as stack:
        with recorded.torchserve.holding(b"explain"):
            wires = [stack.enter_context(Wire(recorded.port)) for _ in range(places + more)]
            for wire in wires:
                wire.send(post(b"{}", path=path))
            answered = eventually(lambda: ready(wires) if len(ready(wires)) == more else [])
            for wire in answered:
                answer = wire.answer()
                assert (answer.status, error(answer).split(":")[0]) == (503, "server")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            for _ in range(20):
                assert asked(recorded.port, post(b"{}")).body == answer_to(b"{}")
            assert under_way(recorded, before) == AT_ONCE
        for wire in wires:
            if wire not in answered:
                assert wire.answer().body == answer_to(b"{}")
    assert under_way(recorded, before) == places


def ready(wires: list[Wire]) -> list[Wire]:
    there = select.select([wire.socket for wire in wires], [], [], 0)[0]
    return [wire for wire in wires if wire.socket in there]


def test_large_explanations_that_arrive_slowly_keep_no_other_from_being_made(
    recorded: Recorded, eventually: Eventually
) -> None:
    """The most that are buffered here; one more is refused. A small one overtakes them."""
    request = post(bytes(3_000_000), path="/v1/models/alexnet:explain")[:-1]
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(recorded.port)) for _ in range(LARGE_EXPLANATIONS)]
        for wire in wires:
            wire.send(request)
        answer = asked(recorded.port, request)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert asked(recorded.port, post(b"{}", path="/v1/models/alexnet:explain")).body == answer_to(b"{}")
        wires[0].send(b"\0")
        assert wires[0].answer().body == answer_to(bytes(3_000_000))


def test_a_large_explanation_has_the_bound_of_all_bodies(recorded: Recorded) -> None:
    answer = asked(recorded.port, post(bytes(16 * 1024 * 1024 + 1), path="/v1/models/alexnet:explain"))
    assert answer.status == 413
    with Http2(recorded.port) as http:
        http.open(1, head(path=EXPLAIN))
        http.data(1, bytes(16 * 1024 * 1024))
        assert http.ends(1) == answer_to(bytes(16 * 1024 * 1024))
