"""The front door's answers, for each case that TorchServe's own front end got wrong, and that they reveal no more."""

from __future__ import annotations

import gzip
import json
import random
import re
import select
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from reliability.clients import PHOTOGRAPHS
from reliability.pictures import base64_text, encoded, gradient
from reliability.servers import OURS, Server, Servers
from server.door import REQUESTS_A_PROCESSOR
from server.processors import processors
from tests.door.wire import Answer, Http2, Wire, asked, head, post
from tests.support.waiting import Eventually

pytestmark = pytest.mark.slow

JSON, JPEG = "Content-Type: application/json", "Content-Type: image/jpeg"
PREDICT = "/v1/models/alexnet:predict"
PHOTOGRAPH = PHOTOGRAPHS[0].read_bytes()
LIMIT = 16 * 1024 * 1024
ARRIVES_WITHIN_S = 2
CONNECTIONS = 20


@pytest.fixture(scope="module")
def servers(directory: Path) -> Servers:
    return Servers(OURS, directory)


@pytest.fixture(scope="module")
def strict(servers: Servers) -> Iterator[Server]:
    """With short timeouts, to suit a test."""
    with servers.started(variables={"REQUEST_TIMEOUT_S": str(ARRIVES_WITHIN_S)}) as server:
        yield server


@pytest.fixture(scope="module")
def narrow(servers: Servers) -> Iterator[Server]:
    """Accepts few connections, and few requests at a time."""
    variables = {"MAX_CONNECTIONS": str(CONNECTIONS), "MAX_REQUESTS": "2", "TS_JOB_QUEUE_SIZE": "1"}
    with servers.started(variables=variables) as server:
        yield server


def port(server: Server) -> int:
    return server.address[1]


def predict(top_k: int, image: bytes = PHOTOGRAPH, *lines: str) -> bytes:
    """A request whose answer identifies it."""
    body = {"instances": [{"b64": base64_text(image)}], "parameters": {"top_k": top_k}}
    return post(json.dumps(body).encode(), JSON, *lines)


def classes(answer: Answer) -> int:
    assert answer.status == 200, answer
    return len(json.loads(answer.body)["predictions"][0]["classes"])


def error(answer: Answer) -> str:
    """The message of an error, whose shape is checked."""
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.body) < 1000
    said = json.loads(answer.body)
    assert list(said) == ["error"]
    place, colon, what = said["error"].partition(": ")
    assert place
    assert colon
    assert what
    return str(said["error"])


# --- The table of observed cases --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=%f", "application/x-www-form-urlencoded"),
        (b"forged", "application/x-www-form-urlencoded; charset=forged"),
        (b"forged", "multipart/form-data; boundary=forged%"),
        (b"forged", "multipart/form-data"),
        (b"--a\r\nforged", "multipart/form-data; boundary=a"),
        (b"\x01" * 1_000_000, "application/x-www-form-urlencoded"),
    ],
)
def test_a_form_that_cannot_be_decoded_is_refused(body: bytes, content_type: str, strict: Server) -> None:
    answer = asked(port(strict), post(body, f"Content-Type: {content_type}"))
    assert answer.status in (400, 415)
    assert "forged" not in error(answer)


def test_a_photograph_as_curl_sends_it(strict: Server) -> None:
    answer = asked(port(strict), post(PHOTOGRAPH, "Content-Type: application/x-www-form-urlencoded"))
    assert classes(answer) == 5


@pytest.mark.parametrize("slowest", [0, 3, None], ids=["the first is slow", "one between is slow", "all alike"])
def test_answers_come_in_the_order_of_the_requests(slowest: int | None, strict: Server) -> None:
    large = encoded(gradient(4000, 3000), "JPEG")
    for _ in range(5):
        with Wire(port(strict)) as wire:
            wire.send(b"".join(predict(k + 1, large if k == slowest else PHOTOGRAPH) for k in range(8)))
            assert [classes(wire.answer()) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_refused_request_among_others_is_answered_in_its_place(strict: Server) -> None:
    with Wire(port(strict)) as wire:
        wire.send(predict(1) + post(b"{", JSON) + predict(2) + post(b"", JPEG) + predict(3))
        assert [wire.answer().status for _ in range(5)] == [200, 400, 200, 400, 200]


def test_many_requests_for_nothing_are_answered_or_closed(strict: Server) -> None:
    """Envoy buffers two of its own answers, and closes a connection that asks for more before reading them."""
    with Wire(port(strict)) as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        statuses = [wire.answer().status for _ in range(100)]
    assert statuses == sorted(statuses, reverse=True)
    assert set(statuses) <= {404, 0}
    assert statuses[0] == 404


@pytest.mark.parametrize("path", ["/v1/models", PREDICT])
def test_a_request_of_http_1_0_is_answered_and_closed(path: str, strict: Server) -> None:
    with Wire(port(strict)) as wire:
        if path == PREDICT:
            wire.send(predict(2).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            assert classes(wire.answer()) == 2
        else:
            wire.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert wire.answer().status == 200
        assert wire.ended()


def test_a_head_of_60_kib_is_taken(strict: Server) -> None:
    cookies = [f"Cookie: a={'b' * 50_000}", f"Authorization: Bearer {'c' * 10_000}"]
    assert classes(asked(port(strict), predict(3, PHOTOGRAPH, *cookies))) == 3
    assert asked(port(strict), f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{cookies[0]}\r\n\r\n".encode()).status == 200


@pytest.mark.parametrize(
    "lines",
    [[f"Cookie: {'a' * 70_000}"], [f"{'a' * 70_000}: b"], [f"a{number}: b" for number in range(200)]],
    ids=["value", "name", "count"],
)
def test_a_longer_head_is_431(lines: list[str], strict: Server) -> None:
    for request in (post(b"{}", *lines), "\r\n".join(["GET / HTTP/1.1", "Host: x", *lines, "", ""]).encode()):
        answer = asked(port(strict), request)
        assert answer.status == 431
        assert error(answer) == "headers: more than 64 KiB, or more than 100"


SMALL = post(bytes(1000))[:-1]
LARGE = post(bytes(3_000_000))[:-1_000_000]
CHUNKED = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n".encode()


@pytest.mark.parametrize("begun", [SMALL, LARGE, CHUNKED], ids=["small", "large", "chunked"])
def test_a_request_that_does_not_arrive_is_408(begun: bytes, strict: Server) -> None:
    with Wire(port(strict)) as wire:
        wire.send(begun)
        answer = wire.answer()
        assert answer.status == 408
        assert error(answer) == f"request: did not arrive within {ARRIVES_WITHIN_S} s (its headers within 10 s)"
        assert wire.ended()


# --- One shape for every answer ---------------------------------------------------------------------------------------

GET = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n".format
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"hello\r\n\r\n", 400, "request: "),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "request: "),
    "an unknown path": (GET("/forged").encode(), 404, "path: "),
    "TorchServe's path": (post(b"{}", path="/predictions/alexnet"), 404, "path: "),
    "TorchServe's ping": (GET("/ping").encode(), 404, "path: "),
    "a path that climbs": (GET("/x/../v1/models").encode(), 404, "path: "),
    "a path with a slash in percents": (GET("/v1%2fmodels").encode(), 404, "path: "),
    "a path with two slashes": (GET("//v1/models").encode(), 404, "path: "),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, "path: "),
    "GET of a predict call": (GET(PREDICT).encode(), 405, "method: "),
    "PUT of a status": (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405, "method: "),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: x\r\nforged: 1\r\n\r\n", 405, "method: "),
    "CONNECT": (b"CONNECT forged:443 HTTP/1.1\r\nHost: forged:443\r\n\r\n", 405, "method: "),
    "an unknown method": (b"FORGED / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request: "),
    "v2's call of another version": (post(b"{}", path="/v2/models/alexnet/versions/forged/infer"), 404, "version: "),
    "another version": (GET("/v2/models/alexnet/versions/forged/ready").encode(), 404, "version: "),
    "GET of v2's call": (GET("/v2/models/alexnet/infer").encode(), 405, "method: "),
    "GET of an explanation": (GET("/v1/models/alexnet:explain").encode(), 405, "method: "),
    "an explanation of nothing": (post(b"{}", path="/v1/models/alexnet:explain"), 400, "instances: "),
    "too large, by its length": (post(b"{}").replace(b": 2", b": 16777217"), 413, "body: "),
    "too large, on any path": (post(b"{}", path="/forged").replace(b": 2", b": 16777217"), 413, "body: "),
    "an encoding that is not taken": (post(b"{}", "Content-Encoding: forged"), 415, "content-encoding: "),
    "two encodings": (post(b"{}", "Content-Encoding: gzip, gzip"), 415, "content-encoding: "),
    "a coding that is not taken": (CHUNKED.replace(b"chunked", b"gzip"), 501, "transfer-encoding: "),
    "a body with a GET": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400, "body: "),
    "what the handler refuses": (post(b"{", JSON), 400, "body: "),
    "no image": (post(b"forged", JPEG), 400, "body: "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_has_one_shape(name: str, strict: Server) -> None:
    request, status, place = REFUSED[name]
    answer = asked(port(strict), request)
    assert answer.status == status
    said = error(answer)
    assert said.startswith(place)
    assert "forged" not in said


def test_a_body_that_grows_too_large_is_413(strict: Server) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with Wire(port(strict)) as wire:
        wire.send(CHUNKED)
        for _ in range(17):
            if not wire.send(chunk):
                break
        answer = wire.answer()
    assert (answer.status, error(answer)) == (413, f"body: more than {LIMIT} bytes")


@pytest.mark.parametrize("name", ["Upgrade: websocket", "Upgrade: h2c", "Upgrade: TLS/1.2"])
def test_an_offer_of_another_protocol_is_ignored(name: str, strict: Server) -> None:
    """RFC 9110, 7.8. Apache's HttpClient sends one with each request."""
    assert classes(asked(port(strict), predict(2, PHOTOGRAPH, "Connection: Upgrade", name))) == 2


@pytest.mark.parametrize(
    "line", ["Range: bytes=0-1", "Expect: 100-continue", "If-Match: a", "If-None-Match: *", "Host: y"]
)
def test_what_has_no_meaning_here_changes_nothing(line: str, strict: Server) -> None:
    assert classes(asked(port(strict), predict(2, PHOTOGRAPH, line))) == 2


def test_http2_is_answered_as_http1(strict: Server) -> None:
    with Http2(port(strict)) as http:
        http.open(1, head((b"content-type", b"image/jpeg")))
        http.data(1, PHOTOGRAPH)
        http.open(3, head(method=b"GET", path=b"/forged"), end=True)
        answers = [json.loads(http.ends(stream) or b"") for stream in (1, 3)]
    assert len(answers[0]["predictions"][0]["classes"]) == 5
    assert answers[1]["error"].startswith("path: ")


# --- Encodings --------------------------------------------------------------------------------------------------------


def brotli(content: bytes) -> bytes:
    """As it is, in blocks: RFC 7932, 9.2."""
    packed = b""
    for start in range(0, len(content), 1 << 16):
        part = content[start : start + (1 << 16)]
        first = start == 0
        packed += struct.pack("<I", (len(part) - 1) << (4 if first else 3) | 1 << (20 if first else 19))[:3] + part
    return packed + b"\x03"


ZSTD = b"\x28\xb5\x2f\xfd\x00\x58"  # a frame with a window of 2 MiB


def zstd(content: bytes) -> bytes:
    """As it is, in blocks: RFC 8878, 3.1.1."""
    parts = [content[start : start + 100_000] for start in range(0, len(content), 100_000)]
    blocks = [struct.pack("<I", (part is parts[-1]) | len(part) << 3)[:3] + part for part in parts]
    return ZSTD + b"".join(blocks)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "GZIP", "identity"])
def test_encoded_bodies_are_taken(encoding: str, strict: Server) -> None:
    encoded_as = {"gzip": gzip.compress(PHOTOGRAPH), "br": brotli(PHOTOGRAPH), "zstd": zstd(PHOTOGRAPH)}
    body = encoded_as.get(encoding.lower(), PHOTOGRAPH)
    answer = asked(port(strict), post(body, JPEG, f"Content-Encoding: {encoding}"))
    assert classes(answer) == 5
    assert answer.body == asked(port(strict), post(PHOTOGRAPH, JPEG)).body


def test_what_is_too_large_when_it_is_unpacked_is_413(strict: Server) -> None:
    digits = random.Random(0).randbytes(LIMIT // 2 + 1).hex().encode()
    noise = random.Random(0).randbytes(128_000)
    zeros = struct.pack("<I", 1 << 1 | 131_072 << 3)[:3] + b"\0"  # a block with a repeated byte
    repeated = (struct.pack("<I", len(noise) << 3)[:3] + noise) * 2 + zeros * 128 + b"\x01\0\0"
    for encoding, packed in (("gzip", gzip.compress(digits, 1)), ("zstd", ZSTD + repeated)):
        assert len(packed) < LIMIT
        answer = asked(port(strict), post(packed, f"Content-Encoding: {encoding}"))
        assert (answer.status, error(answer)) == (413, f"body: more than {LIMIT} bytes"), encoding


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_what_cannot_be_unpacked_is_refused(encoding: str, strict: Server) -> None:
    answer = asked(port(strict), post(b"forged" * 100, JPEG, f"Content-Encoding: {encoding}"))
    assert answer.status == 400
    assert "forged" not in error(answer)


# --- Query strings, and who answered ----------------------------------------------------------------------------------

NO_NUMBER = "top_k: expected an integer from 1 to 1000"
NOT_ONCE = "top_k: expected once in the URL, as ?top_k=5"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        *((query, 5) for query in ("", "a=b", "a", "&", "=", "key=topk", "a=top_k=3", "network=3", "%3f", "stopkey=1")),
        *((query, 3) for query in ("top_k=3", "&top_k=3&", "a=b&top_k=3&c=topk", "top_k=03")),
        *((f"top_k={value}", NO_NUMBER) for value in ("", "0", "1001", "x", "3.0", "-3", "%33", "3" * 5000, "3=3")),
        *(
            (f"{name}=3", NOT_ONCE)
            for name in (
                "topk",
                "top-k",
                "topK",
                "TOP_K",
                "k",
                "top_n",
                "top%5Fk",
                "%74op_k",
                "to%50_k",
                "%6b",
                "parameters.top_k",
            )
        ),
        *((query, NOT_ONCE) for query in ("top_k", "parameters%5Btop_k%5D=3", "top_k=3&top_k=3", "top_k=3&topk=3")),
        ("a&" * 15_000 + "topk=3", NOT_ONCE),
    ],
)
def test_a_number_of_classes_in_the_address_is_taken_or_refused(
    query: str, expected: int | str, strict: Server
) -> None:
    answer = asked(port(strict), post(PHOTOGRAPH, JPEG, path=f"{PREDICT}?{query}"))
    if isinstance(expected, int):
        assert classes(answer) == expected
    else:
        assert (answer.status, error(answer)) == (400, expected)


def test_it_is_taken_from_the_address_and_from_no_header(strict: Server) -> None:
    assert classes(asked(port(strict), post(PHOTOGRAPH, JPEG, "x-client-top-k: 3"))) == 5
    twice = asked(port(strict), predict(2).replace(PREDICT.encode(), f"{PREDICT}?top_k=2".encode(), 1))
    assert (twice.status, error(twice)) == (400, "top_k: is given twice, in the URL and in parameters")


def test_an_answer_of_the_model_says_which_version_it_is_of(strict: Server) -> None:
    served = json.loads(asked(port(strict), GET("/").encode()).body)["version"]
    assert served
    for request in (predict(1), post(b"{", JSON)):
        assert asked(port(strict), request).headers["x-model-version"] == served
    for request in (GET("/nothing").encode(), post(b"{}", path=f"{PREDICT}?topk=1")):
        assert "x-model-version" not in asked(port(strict), request).headers


def test_a_large_answer_is_compressed_for_who_asks_for_it(strict: Server) -> None:
    plain = asked(port(strict), predict(1000))
    packed = asked(port(strict), predict(1000, PHOTOGRAPH, "Accept-Encoding: gzip"))
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 2
    assert gzip.decompress(packed.body) == plain.body


def test_a_small_answer_is_not_compressed(strict: Server) -> None:
    assert "content-encoding" not in asked(port(strict), predict(1, PHOTOGRAPH, "Accept-Encoding: gzip")).headers


# --- Nothing of a client gets into an answer or the log ---------------------------------------------------------------

MARK = "forged"
ESCAPE = "\x1b[31m"
HOSTILE: list[bytes] = [
    post(MARK.encode(), path=f"/{MARK}"),
    post(b"{}", path=f"{PREDICT}?{MARK}=%0aERROR%20{MARK}"),
    post(b"{}", f"User-Agent: {MARK}", f"Referer: {MARK}", f"{MARK}: 1", f"X-Forwarded-For: {MARK}"),
    post(b"{}", f"Host: {MARK}", f"Cookie: {MARK}", f"Authorization: {MARK}", f"X-Forwarded-Host: {MARK}"),
    post(b"{}", f"Content-Type: {MARK}/{MARK}"),
    post(b"{}", f"Traceparent: {MARK}", f"X-Envoy-Original-Path: /{MARK}", f"X-Envoy-External-Address: {MARK}"),
    post(b"{}", f"User-Agent: {ESCAPE}{MARK}"),
    post(b"{}", f"{ESCAPE}{MARK}: 1"),
    post(json.dumps({MARK: f"\r\nERROR {MARK}", "instances": [{f"{MARK}{ESCAPE}": 1}]}).encode(), JSON),
    post(b"{}", path=f"/v1/models/{MARK}:predict"),
    post(b"{}", path=f"/v1/models/%0a{MARK}:predict"),
    post(b"{}", path=f"http://{MARK}/{MARK}"),
    post(b"{}", path=f"/{MARK}").replace(b": 2\r\n", b": 99999999\r\n"),
    post(b"{}", f"Content-Encoding: {MARK}"),
    post(b"{}", f"Transfer-Encoding: {MARK}"),
    post(b"{}", f"Expect: {MARK}", "Connection: Upgrade", f"Upgrade: {MARK}"),
    f"{MARK} /{MARK} HTTP/1.1\r\nHost: {MARK}\r\n\r\n".encode(),
    f"GET /{MARK}{ESCAPE} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    f"CONNECT {MARK}:1 HTTP/1.1\r\nHost: {MARK}:1\r\n\r\n".encode(),
    f"TRACE /{MARK} HTTP/1.1\r\nHost: x\r\nX: {MARK}\r\n\r\n".encode(),
    f"GET /{MARK * 10_000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    f"GET /{MARK * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
]


def test_nothing_of_a_request_gets_into_its_answer_or_the_log(strict: Server, eventually: Eventually) -> None:
    for request in HOSTILE:
        answer = asked(port(strict), request)
        assert 400 <= answer.status < 500 or answer.status == 501, request[:100]
        everything = repr((answer.headers, answer.body))
        assert MARK not in everything, request[:100]
        assert "\\x1b" not in everything
    before = strict.log().count("lua_response")
    asked(port(strict), post(b"{}", "Content-Encoding: x"))  # its line follows those of the others
    eventually(lambda: strict.log().count("lua_response") > before)
    assert MARK not in strict.log()


def test_the_log_is_lines_of_json_that_are_cut_and_clean(strict: Server) -> None:
    asked(port(strict), post(b"{}", f"X-Request-Id: {'r' * 5000}"))
    for line in strict.log().splitlines():
        assert len(line) < 8192
        assert line.isprintable()
        assert line.startswith("{"), line
        assert {"time", "severity", "logger", "message"} <= json.loads(line).keys()


def test_the_id_of_a_request_is_in_its_answer(strict: Server) -> None:
    answer = asked(port(strict), post(b"{}", "X-Request-Id: its-own"))
    assert answer.headers["x-request-id"] == "its-own"
    long = asked(port(strict), post(b"{}", f"X-Request-Id: <b>{'a' * 5000}"))
    assert len(long.headers["x-request-id"]) == 36  # the door's own
    assert asked(port(strict), post(b"{}")).headers["x-request-id"]


# --- Bounds -----------------------------------------------------------------------------------------------------------


def test_there_are_no_more_connections_than_the_limit(narrow: Server, eventually: Eventually) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Wire(port(narrow))) for _ in range(CONNECTIONS)]
        with Wire(port(narrow)) as one_more:
            assert one_more.ended()
        held[0].send(predict(2))
        assert classes(held[0].answer()) == 2
    eventually(lambda: asked(port(narrow), predict(2)).status == 200)


def test_what_is_too_much_is_503_at_once_and_says_when_to_ask_again(narrow: Server) -> None:
    def ask(_: int) -> Answer:
        return asked(port(narrow), predict(5, encoded(gradient(1000, 1000), "JPEG")))

    with ThreadPoolExecutor(CONNECTIONS - 4) as pool:
        answers = list(pool.map(ask, range(40)))
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    assert len(refused) < len(answers)
    for answer in refused:
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        error(answer)


def figure(server: Server, name: str) -> int:
    """A metric of the door, with no other label than its owner."""
    page = httpx.get(f"http://127.0.0.1:{server.ports.metrics}/metrics", trust_env=False).text
    (value,) = re.findall(rf"^{name}{{.*}} (\d+)$", page, re.MULTILINE)
    return int(value)


def test_as_many_as_there_are_places_may_come_at_once(strict: Server, eventually: Eventually) -> None:
    """Even if the door has no connection to TorchServe yet. One more is refused; who leaves frees a place."""
    places, more = REQUESTS_A_PROCESSOR * processors(), 5
    try:
        strict.java().suspend()
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(port(strict))) for _ in range(places + more)]
            for wire in wires:
                wire.send(post(b"{}", JSON))
            eventually(lambda: len(select.select([wire.socket for wire in wires], [], [], 0)[0]) == more)
        strict.java().resume()
        eventually(lambda: figure(strict, "envoy_http_downstream_rq_active") == 0)

        strict.java().suspend()
        with ThreadPoolExecutor(places + more) as pool:
            asking = [pool.submit(asked, port(strict), post(b"{}", JSON)) for _ in range(places + more)]
            refused = [one.result().status for _, one in zip(range(more), as_completed(asking))]
            assert refused == [503] * more
            strict.java().resume()
            assert sorted(one.result().status for one in asking) == [400] * places + [503] * more
        assert figure(strict, "envoy_http_adaptive_concurrency_gradient_controller_rq_blocked") == 2 * more
    finally:
        strict.java().resume()


def killed(server: Server) -> None:
    for worker in server.workers():
        worker.send_signal(signal.SIGKILL)


def test_a_request_whose_worker_ends_is_answered_in_our_shape(narrow: Server, eventually: Eventually) -> None:
    workers = {worker.pid for worker in narrow.workers()}
    for worker in narrow.workers():
        worker.suspend()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked, port(narrow), predict(2))
        eventually(lambda: established(narrow))
        killed(narrow)
        answer = asking.result()
    assert answer.status in (500, 503)
    assert error(answer).startswith("server: ")
    assert (answer.status == 503) == ("retry-after" in answer.headers)
    eventually(lambda: asked(port(narrow), predict(2)).status == 200)
    assert not workers & {worker.pid for worker in narrow.workers()}


def established(server: Server) -> bool:
    return any(
        connection.status == "ESTABLISHED" and connection.laddr.port == port(server)
        for connection in server.envoy().connections("tcp")
    )


def test_a_request_that_java_does_not_take_is_answered(narrow: Server, eventually: Eventually) -> None:
    """TorchServe is paused: what the door can neither pass on nor queue is refused, and all works afterwards."""
    narrow.java().suspend()
    try:
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(asked, port(narrow), predict(2)) for _ in range(8)]
            eventually(lambda: sum(one.done() for one in asking) >= 6)
            narrow.java().resume()
            answers = [one.result() for one in asking]
    finally:
        narrow.java().resume()
    assert {answer.status for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status == 503:
            assert error(answer).startswith("server: ")
            assert int(answer.headers["retry-after"]) >= 1
