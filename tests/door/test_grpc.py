"""gRPC on REST's port: the six methods, the status of each refusal, and requests that no gRPC client would send.

A server that records requests takes TorchServe's place.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from server import door
from server.door import GRPC_CALLS, MAX_MESSAGE_BYTES, REQUESTS_A_PROCESSOR
from server.processors import processors
from tests.door.any_message import any_message
from tests.door.conftest import ARRIVES_WITHIN_S, VERSION, Recorded, before_recorders
from tests.door.recorder import SENTENCE, answer_to, digest
from tests.door.wire import HEADERS, Http2, asked, frame, packed, post
from tests.support.waiting import PATIENCE_S, Eventually

grpc = pytest.importorskip("grpc", reason="grpcio comes with kserve, which needs Python below 3.14")
pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
stubs = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2_grpc")
pytestmark = pytest.mark.slow

SERVICE = "/inference.GRPCInferenceService/"
PLACES = REQUESTS_A_PROCESSOR * processors()
LARGEST = MAX_MESSAGE_BYTES - 200  # minus what surrounds the image


@pytest.fixture
def channel(recorded: Recorded) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{recorded.port}", options=[("grpc.enable_retries", 0)]) as made:
        yield made


@pytest.fixture
def stub(channel: Any) -> Any:
    return stubs.GRPCInferenceServiceStub(channel)


def question(image: bytes = b"image", **more: object) -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(name="images", datatype="BYTES", shape=[1])
    raw = struct.pack("<I", len(image)) + image
    return pb.ModelInferRequest(**{"model_name": "alexnet", "inputs": [tensor], "raw_input_contents": [raw], **more})


def refused(call: Any, *arguments: object, **named: object) -> tuple[str, str]:
    """The name of the status, and the message."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=PATIENCE_S, **named)
    return caught.value.code().name, caught.value.details()


def sent(stub: Any, asking: Any, eventually: Eventually, *metadata: tuple[str, str]) -> Any:
    """The answer to a large message, once there is room for it."""

    def answer() -> Any:
        try:
            return stub.ModelInfer(asking, metadata=metadata)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return None

    return eventually(answer)


# --- The six methods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "request_", "line"),
    [
        ("ServerLive", pb.ServerLiveRequest(), "/v2/health/live"),
        ("ServerReady", pb.ServerReadyRequest(), "/v2/health/ready"),
        ("ServerMetadata", pb.ServerMetadataRequest(), "/v2"),
        ("ModelReady", pb.ModelReadyRequest(name="alexnet"), "/v2/models/alexnet/ready"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="alexnet"), "/v2/models/alexnet"),
        (
            "ModelReady",
            pb.ModelReadyRequest(name="alexnet", version=VERSION),
            f"/v2/models/alexnet/ready?version={VERSION}",
        ),
    ],
)
def test_what_the_server_says_of_itself_is_what_it_says_in_rest(
    method: str, request_: Any, line: str, stub: Any, recorded: Recorded
) -> None:
    getattr(stub, method)(request_)
    assert recorded.status.lines[-1] == f"GET {line} HTTP/1.1\r\n".encode()


def test_what_is_not_ready_says_so_in_its_message(stub: Any, recorded: Recorded) -> None:
    """Like Triton and KServe's own server: the status is OK."""
    recorded.status.status = 503
    try:
        assert stub.ServerLive(pb.ServerLiveRequest()) == pb.ServerLiveResponse(live=False)
        assert stub.ServerReady(pb.ServerReadyRequest()) == pb.ServerReadyResponse(ready=False)
        ready = stub.ModelReady(pb.ModelReadyRequest(name="alexnet"))
        assert ready == pb.ModelReadyResponse(ready=False)
        answer = asked(recorded.port, b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nX-Client-Protocol: grpc\r\n\r\n")
        assert answer.status == 503
    finally:
        recorded.status.status = 200


@pytest.mark.parametrize("size", [5, 600_000, LARGEST])
def test_a_call_of_the_model_is_json_for_the_handler(
    size: int, stub: Any, recorded: Recorded, eventually: Eventually
) -> None:
    image, identity = bytes(size), f"grpc-{size}"
    asking = question(image, id="mine", parameters={"top_k": pb.InferParameter(int64_param=3)})
    answer = sent(stub, asking, eventually, ("x-request-id", identity), ("cookie", "a=b"))
    (heard,) = recorded.torchserve.of(identity)
    assert recorded.torchserve.doubts == []
    assert answer.id == digest(heard.body).decode()
    assert heard.path == b"/v1/models/alexnet:predict"
    assert heard.headers[b"x-client-protocol"] == b"grpc"
    assert heard.headers[b"content-type"] == b"application/json"
    assert json.loads(heard.body) == {
        "model_name": "alexnet",
        "id": "mine",
        "parameters": {"top_k": {"int64_param": "3"}},
        "inputs": [{"name": "images", "datatype": "BYTES", "shape": ["1"]}],
        "raw_input_contents": [base64.b64encode(struct.pack("<I", size) + image).decode()],
    }


@pytest.mark.parametrize("said", ["3", "none"])
def test_a_message_is_whole_whatever_its_metadata_says(said: str, stub: Any, recorded: Recorded) -> None:
    metadata = [("x-request-id", f"whole-{said}"), ("inference-header-content-length", said)]
    stub.ModelInfer(question(), metadata=metadata)
    (heard,) = recorded.torchserve.of(f"whole-{said}")
    assert b"inference-header-content-length" not in heard.headers


# --- Statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "RESOURCE_EXHAUSTED"),
        (415, "UNIMPLEMENTED"),
        (422, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (599, "INTERNAL"),
    ],
)
def test_a_refusal_of_the_handler_is_its_sentence_and_the_status_of_grpc(status: int, code: str, stub: Any) -> None:
    said = refused(stub.ModelInfer, question(), metadata=[("x-request-id", f"status-{status}")])
    assert said == (code, SENTENCE)


def test_a_refusal_of_torchserve_itself_is_in_our_words(stub: Any) -> None:
    lost = "server: the batch with this request was lost: try again after Retry-After seconds"
    busy = "server: the model is busy or not loaded yet: try again after Retry-After seconds"
    defect = "server: internal error, see the server's log"
    for status, said in {500: ("UNAVAILABLE", lost), 404: ("UNAVAILABLE", busy), 405: ("INTERNAL", defect)}.items():
        metadata = [("x-request-id", f"status-{status}-own")]
        assert refused(stub.ModelInfer, question(), metadata=metadata) == said


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ModelInfer", lambda name, version: question(model_name=name, model_version=version)),
        ("ModelReady", lambda name, version: pb.ModelReadyRequest(name=name, version=version)),
        ("ModelMetadata", lambda name, version: pb.ModelMetadataRequest(name=name, version=version)),
    ],
)
def test_another_model_or_version_is_not_found(method: str, request_: Any, stub: Any) -> None:
    ask = partial(refused, getattr(stub, method))
    for name in ("forged", "alexnet/", "../alexnet", "alexnet?", "alexne", "{name}", "f" * 2000):
        assert ask(request_(name, "")) == ("NOT_FOUND", "model: only alexnet is served here")
    said = f"version: only {VERSION} of alexnet is served: name it or none"
    assert ask(request_("alexnet", "forged")) == ("NOT_FOUND", said)
    assert ask(request_("", "")) == ("INVALID_ARGUMENT", "model: the name is missing")


@pytest.mark.parametrize(
    "path",
    [
        *(
            SERVICE + name
            for name in ("RepositoryModelLoad", "ModelStreamInfer", "forged", "", "ServerLive/", "serverlive")
        ),
        *("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
        *("/forged", "/", "/v1/models/alexnet:predict", "/v2/models/alexnet/infer", "/v2"),
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    ],
)
def test_what_is_not_here_is_unimplemented(path: str, channel: Any) -> None:
    code, said = refused(channel.unary_unary(path), b"\x0a\x07alexnet")
    assert (code, said.partition(":")[0]) == ("UNIMPLEMENTED", "method")
    assert "forged" not in said


def test_a_query_is_refused_by_name(channel: Any) -> None:
    said = refused(channel.unary_unary(f"{SERVICE}ModelInfer?top_k=2"), question().SerializeToString())
    assert said == ("INVALID_ARGUMENT", "path: nothing may follow the method name")


def test_a_compressed_message_is_unimplemented(stub: Any) -> None:
    said = refused(stub.ModelInfer, question(bytes(1000)), compression=grpc.Compression.Gzip)
    assert said == ("UNIMPLEMENTED", "grpc-encoding: compressed messages are not accepted")


def test_what_is_refused_before_all_else_is_said_as_well(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door's heap is full, so its scripts no longer run."""
    monkeypatch.setattr(door, "MAX_HEAP_BYTES", 1_000_000)
    with before_recorders(eventually) as full, grpc.insecure_channel(f"127.0.0.1:{full.port}") as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        eventually(lambda: asked(full.port, post()).status == 503)
        code, said = refused(stub.ServerLive, pb.ServerLiveRequest())
        assert code == "UNAVAILABLE"
        assert said.startswith("server: too many requests are waiting")


# --- Sizes ------------------------------------------------------------------------------------------------------------


def contents(**named: object) -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(name="i", contents=pb.InferTensorContents(**named))
    return pb.ModelInferRequest(model_name="alexnet", inputs=[tensor])


def test_a_message_that_is_too_large_is_resource_exhausted(stub: Any, eventually: Eventually) -> None:
    said = "message: more than 12 MiB, or more than 16 MiB as JSON"
    for size in (MAX_MESSAGE_BYTES - 50, MAX_MESSAGE_BYTES + 1, 20_000_000):
        asking = question(bytes(size))
        eventually(lambda: refused(stub.ModelInfer, asking) == ("RESOURCE_EXHAUSTED", said))  # noqa: B023  # called here
    name = "n" * 100_000
    assert refused(stub.ModelReady, pb.ModelReadyRequest(name=name))[0] == "RESOURCE_EXHAUSTED"


def test_few_large_messages_come_at_once(stub: Any, recorded: Recorded, eventually: Eventually) -> None:
    """Each may keep the door's only thread busy for a while; small ones still get their places."""
    large = question(bytes(12_000_000), model_name="forged")
    no_room = ("UNAVAILABLE", "server: too many large gRPC messages: try again, or use REST")
    eventually(lambda: refused(stub.ModelInfer, large) == no_room)
    assert stub.ModelInfer(question()).model_name == "alexnet"
    assert asked(recorded.port, post(bytes(9_000_000))).status == 200
    eventually(lambda: refused(stub.ModelInfer, large)[0] == "NOT_FOUND")


def test_numbers_are_fewer_than_bytes_may_be(stub: Any, eventually: Eventually) -> None:
    """Each field costs the door as much work as a hundred bytes; images are bytes in both of gRPC's forms."""
    sent(stub, contents(bytes_contents=[bytes(9_000_000)]), eventually)
    stub.ModelInfer(contents(uint_contents=[255] * 224 * 224 * 3))
    said = "message: more than 512 KiB outside bytes fields: send tensors in raw_input_contents"
    for much in (
        contents(bool_contents=[True] * 600_000),
        contents(fp32_contents=[1.0] * 200_000),
        question(id="i" * 600_000),
        question(parameters={"a": pb.InferParameter(string_param="s" * 600_000)}),
    ):
        assert refused(stub.ModelInfer, much) == ("RESOURCE_EXHAUSTED", said)
    for many in (question(raw_input_contents=[b""] * 10_001), contents(bytes_contents=[b""] * 10_001)):
        assert refused(stub.ModelInfer, many) == ("RESOURCE_EXHAUSTED", "message: more than 10000 fields")


def test_as_many_calls_as_there_are_places(stub: Any, recorded: Recorded, eventually: Eventually) -> None:
    """Together with REST calls. One more is UNAVAILABLE at once."""
    before = len(recorded.torchserve.requests)
    with ThreadPoolExecutor(PLACES) as pool:
        with recorded.torchserve.holding(b"predict"):
            asking = [pool.submit(stub.ModelInfer, question()) for _ in range(PLACES)]
            at_torchserve = PLACES - PLACES // 8
            eventually(lambda: len(recorded.torchserve.requests) - before == at_torchserve)
            eventually(lambda: asked(recorded.port, post()).status == 503)
            code, said = refused(stub.ModelInfer, question())
            assert (code, said.partition(":")[0]) == ("UNAVAILABLE", "server")
            assert stub.ServerLive(pb.ServerLiveRequest()) is not None
        for one in asking:
            one.result()


# --- Invalid requests -------------------------------------------------------------------------------------------------

Fields = list[tuple[bytes, bytes]]


def called(method: str = "ModelInfer", *more: tuple[bytes, bytes], kind: bytes = b"application/grpc") -> Fields:
    usual = {b":method": b"POST", b":scheme": b"http", b":path": (SERVICE + method).encode(), b":authority": b"x"}
    return [*usual.items(), (b"content-type", kind), (b"te", b"trailers"), *more]


def framed(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message) if length is None else length) + message


MESSAGE = question().SerializeToString()
NOT_ONE = ("3", "message: expected one, of the length that it states")
NO_SUCH = ("3", "message: not valid for this method")
BODIES: dict[str, tuple[bytes, tuple[str, str]]] = {
    "nothing": (b"", ("3", "message: missing")),
    "half a head": (b"\0\0\0", ("3", "message: missing")),
    "a length that is too small": (framed(MESSAGE, length=3), NOT_ONE),
    "a length that is too large": (framed(MESSAGE, length=len(MESSAGE) + 1), NOT_ONE),
    "the largest length": (framed(MESSAGE, length=2**32 - 1), NOT_ONE),
    "two messages": (framed(MESSAGE) * 2, NOT_ONE),
    "a message and a little": (framed(MESSAGE) + b"\0", NOT_ONE),
    "compressed": (framed(MESSAGE, flag=1), ("12", "grpc-encoding: compressed messages are not accepted")),
    "an unknown flag": (framed(MESSAGE, flag=0x80), ("12", "grpc-encoding: compressed messages are not accepted")),
    "an empty message": (framed(b""), ("3", "model: the name is missing")),
    "no protobuf": (framed(b"\xff" * 50), NO_SUCH),
    "JSON": (framed(b'{"model_name": "alexnet"}'), NO_SUCH),
    "a field that ends too late": (framed(b"\x0a\x07alexnet\x12\x7f"), NO_SUCH),
    "a length of 2^64": (framed(b"\x0a\x07alexnet\x12" + b"\xff" * 9 + b"\x01"), NO_SUCH),
    "a group": (framed(b"\x0a\x07alexnet\x13\x14"), NO_SUCH),
    "a name that is a number": (framed(b"\x08\x01"), ("3", "model: the name is missing")),
    "two names": (
        framed(b"\x0a\x07alexnet\x0a\x06forged"),
        ("5", "model: only alexnet is served here"),
    ),
    "a field of no number": (framed(MESSAGE + b"\x02\x01a"), NO_SUCH),
    "a field of no number within": (framed(MESSAGE + b"\x2a\x04\x00\x00\x0a\x00"), NO_SUCH),
    "a field above all numbers": (framed(MESSAGE + b"\x8a\x80\x80\x80\x10\x00"), NO_SUCH),
    "a parameter without anything": (framed(MESSAGE + b"\x22\x00"), NO_SUCH),
    "a parameter without a value": (framed(MESSAGE + b"\x22\x03\x0a\x01k"), NO_SUCH),
    "a parameter without a name": (framed(MESSAGE + b"\x22\x02\x12\x00"), NO_SUCH),
    "a parameter with two names": (framed(MESSAGE + b"\x22\x08\x0a\x01k\x0a\x01k\x12\x00"), NO_SUCH),
    "a parameter of a tensor without a value": (framed(MESSAGE + b"\x2a\x05\x22\x03\x0a\x01k"), NO_SUCH),
    "a parameter of an output without a value": (framed(MESSAGE + b"\x32\x05\x12\x03\x0a\x01k"), NO_SUCH),
    "an id that is no text": (framed(MESSAGE + b"\x1a\x02\xff\xfe"), NO_SUCH),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_one_message_is_refused(name: str, recorded: Recorded) -> None:
    body, (code, said) = BODIES[name]
    before = len(recorded.torchserve.requests)
    with Http2(recorded.port) as http:
        http.open(1, called())
        http.data(1, body)
        assert http.ends(1) == b""
        head = http.heads[1]
    assert (head[":status"], head["grpc-status"], head["grpc-message"]) == ("200", code, said.replace("%", "%25"))
    assert head["content-type"] == "application/grpc"
    assert "x-door-status" not in head
    assert recorded.torchserve.requests[before:] == []


def test_no_message_ends_the_door(channel: Any, recorded: Recorded) -> None:
    """Envoy's transcoder (1.40) crashed on a parameter without a value, and on a field without a number."""
    ask = channel.unary_unary(f"{SERVICE}ModelInfer")

    def code(seed: int) -> str:
        try:
            ask(any_message(random.Random(seed)), timeout=PATIENCE_S)
        except grpc.RpcError as refused:
            return str(refused.code().name)
        return "OK"

    with ThreadPoolExecutor(8) as pool:
        codes = Counter(pool.map(code, range(4000)))
    assert set(codes) == {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, codes
    assert codes["OK"] > 100
    assert recorded.torchserve.doubts == []


@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive"])
def test_a_head_without_a_message_is_refused(method: str, recorded: Recorded) -> None:
    with Http2(recorded.port) as http:
        http.open(1, called(method), end=True)
        http.ends(1)
        assert (http.heads[1]["grpc-status"], http.heads[1]["grpc-message"]) == ("3", "message: missing")
        http.open(3, called(method, (b"trailer", b"x")))
        http.data(3, framed(b"\x0a\x07alexnet"), end=False)
        http.send(frame(HEADERS, 5, 3, packed([(b"x", b"y")])))
        http.ends(3)
        assert (http.heads[3]["grpc-status"], http.heads[3]["grpc-message"]) == (
            "3",
            "trailers: not allowed in a request",
        )


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (b"application/grpc+proto", "200", "0"),
        (b"application/grpc; a=b", "415", None),
        (b"application/grpc+json", "200", "12"),
        (b"application/grpc+forged", "200", "12"),
        (b"application/grpcforged", "415", None),
        (b"application/grpc-web", "415", None),
        (b"application/grpc-web+proto", "415", None),
        (b"application/json", "415", None),
        (b"", "415", None),
    ],
)
def test_another_content_type_is_refused(kind: bytes, status: str, code: str | None, recorded: Recorded) -> None:
    with Http2(recorded.port) as http:
        http.open(1, called(kind=kind))
        http.data(1, framed(MESSAGE))
        body = http.ends(1)
        head = http.heads[1]
    assert (head[":status"], head.get("grpc-status")) == (status, code)
    if status == "415":
        assert json.loads(body or b"") == {"error": "content-type: expected application/grpc"}


def test_other_heads_are_refused(recorded: Recorded) -> None:
    with Http2(recorded.port) as http:
        http.open(1, called("ModelInfer", (b"content-encoding", b"gzip")))
        http.data(1, framed(MESSAGE))
        http.ends(1)
        http.open(3, [(name, b"GET" if name == b":method" else value) for name, value in called()], end=True)
        http.ends(3)
        http.open(5, called("ModelInfer", *((b"x%d" % number, b"") for number in range(200))))
        http.data(5, framed(MESSAGE))
        http.ends(5)
        assert [http.heads[stream]["grpc-status"] for stream in (1, 3)] == ["12", "12"]
        assert 5 in http.reset or http.heads[5].get("grpc-status") == "8"
    answer = asked(recorded.port, post(framed(MESSAGE), "Content-Type: application/grpc", path=f"{SERVICE}ModelInfer"))
    assert (answer.headers["grpc-status"], answer.headers["grpc-message"]) == ("3", "protocol: gRPC needs HTTP/2")


def test_a_call_that_expires_leaves_its_place(recorded: Recorded, eventually: Eventually) -> None:
    """Clients end their own calls; if a proxy does not, the answer comes when the time is up."""
    with recorded.torchserve.holding(b"predict"), ExitStack() as stack:
        http = stack.enter_context(Http2(recorded.port))
        streams = range(1, 2 * PLACES, 2)
        for stream in streams:
            http.open(stream, called("ModelInfer", (b"grpc-timeout", b"500m")))
            http.data(stream, framed(MESSAGE))
        for stream in streams:
            http.ends(stream)
            assert http.heads[stream]["grpc-status"] == "4", http.heads[stream]
        assert "grpc-timeout" in http.heads[1]["grpc-message"]
    eventually(lambda: asked(recorded.port, post()).body == answer_to(b"{}"))


def test_calls_that_do_not_arrive_are_few_and_end(recorded: Recorded) -> None:
    with Http2(recorded.port) as http:
        streams = range(1, 2 * max(GRPC_CALLS, PLACES), 2)
        for stream in streams:
            http.open(stream, called())
            http.data(stream, framed(MESSAGE)[:-1], end=False)
        last = streams[-1] + 2
        http.open(last, called())
        http.data(last, framed(MESSAGE))
        http.ends(last)
        assert http.heads[last]["grpc-status"] == "14"
        assert asked(recorded.port, post()).body == answer_to(b"{}")
        for stream in streams:
            http.ends(stream)
            assert http.heads[stream]["grpc-status"] == "4"
            assert f"within {ARRIVES_WITHIN_S} s" in http.heads[stream]["grpc-message"]


def test_nothing_of_a_call_is_in_the_log(recorded: Recorded, stub: Any) -> None:
    metadata = [("forged", "forged"), ("user-agent", "forged")]
    for asking in (
        question(model_name="forged"),
        question(model_version="forged"),
        question(id="forged\udcff".encode("utf-8", "replace")),
    ):
        refused(stub.ModelInfer, asking, metadata=[*metadata, ("x-request-id", "status-400")])
    assert "forged" not in (recorded.folder / "log").read_text()
