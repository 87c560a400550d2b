"""The same picture in each protocol: the request, the answer, and the errors."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from conformance.messages import message
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.serving.protocol import Class, Protocol, element_of, question
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.errors import NoServer, NotClassified, NoUrl, PipelineError
from tests.support.grpc_service import GrpcService, running_grpc_service

OVER_HTTP = [Protocol.RAW, Protocol.V1, Protocol.V2]
INFER = "/v2/models/alexnet/infer"


@pytest.fixture
def photograph(photographs: list[Path]) -> str:
    return str(photographs[0])


def asked(url: str, protocol: Protocol, image: str, top_k: int = 3) -> list[Class]:
    with Client(url, MODEL_NAME, protocol=protocol) as client:
        return client.predict(image, top_k)


def without_ids(classes: list[Class]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "wnid"} for entry in classes]


# --- What is asked ----------------------------------------------------------------------------------------------------


def test_a_picture_is_itself_text_or_an_element() -> None:
    picture = b"\xff\xd8\xff"
    raw = question(Protocol.RAW, "pets", picture, 3)
    assert (raw.route, raw.body, raw.query) == ("/v1/models/pets:predict", picture, {"top_k": "3"})
    v1 = question(Protocol.V1, "pets", picture, 3)
    assert json.loads(v1.body) == {"instances": [{"b64": "/9j/"}], "parameters": {"top_k": 3}}
    v2 = question(Protocol.V2, "pets", picture, 3)
    end = int(v2.headers["Inference-Header-Content-Length"])
    [tensor] = json.loads(v2.body[:end])["inputs"]
    assert (v2.route, v2.body[end:]) == ("/v2/models/pets/infer", b"\x03\x00\x00\x00" + picture)
    assert (tensor["shape"], tensor["parameters"]) == ([1], {"binary_data_size": 7})


@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_the_predictions_are_the_same_in_each_protocol_over_http(
    server: TorchServe, photographs: list[Path], top_k: int
) -> None:
    for photograph in photographs:
        raw, v1, v2 = (asked(server.url, protocol, str(photograph), top_k) for protocol in OVER_HTTP)
        assert len(raw) == top_k
        assert raw == v1
        assert without_ids(raw) == v2


# --- What goes wrong over HTTP ----------------------------------------------------------------------------------------


def refusal(url: str, protocol: Protocol, image: str, **options: Any) -> str:
    with pytest.raises(PipelineError) as raised, Client(url, MODEL_NAME, protocol=protocol, **options) as client:
        client.predict(image, top_k=1)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("protocol", "place"),
    [(Protocol.RAW, "400: body: "), (Protocol.V1, "400: instances[0].b64: "), (Protocol.V2, "400: inputs[0]")],
)
def test_what_is_no_image_is_refused_in_the_servers_words(
    server: TorchServe, tmp_path: Path, protocol: Protocol, place: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    said = refusal(server.url, protocol, str(tmp_path / "a.jpg"))
    assert said.startswith(f"{tmp_path / 'a.jpg'}: {place}")
    assert "not an image (" in said


def outputs(*data: list[Any]) -> bytes:
    named = zip(("index", "label", "probability"), data, strict=True)
    return json.dumps({"outputs": [{"name": name, "data": values} for name, values in named]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"outputs": []}',
        b'{"outputs": [{"name": "label", "data": ["tabby"]}]}',
        outputs([1, 2], ["tabby"], [0.5]),
        outputs([1], [7], [0.5]),
        outputs([1], ["tabby"], [1.5]),
        outputs([1], ["tabby"], ["0.5"]),
        outputs([], [], []),
    ],
)
def test_an_answer_in_v2_that_is_not_this_models_is_told_so(website: Any, photograph: str, body: bytes) -> None:
    website.put(INFER, body)
    said = refusal(website.url, Protocol.V2, photograph)
    assert said == f"{photograph}: {website.url} does not answer like this model: is it another server?"


def test_a_query_of_the_users_own_stays_beside_the_number_of_classes(website: Any, photograph: str) -> None:
    website.put("/v1/models/alexnet:predict", b'{"predictions": [{"classes": [{"label": "a", "probability": 0.5}]}]}')
    asked(f"{website.url}/?key=secret", Protocol.RAW, photograph)
    assert website.asked == ["/v1/models/alexnet:predict?key=secret&top_k=3"]


# --- Over gRPC --------------------------------------------------------------------------------------------------------


def answer(label: bytes = element_of(b"tabby"), probability: bytes = struct.pack("<f", 0.123456789)) -> Any:
    response = message("ModelInferResponse")(model_name=MODEL_NAME)
    for name, datatype, raw in (
        ("probability", "FP32", probability),
        ("index", "INT64", struct.pack("<q", 281)),
        ("label", "BYTES", label),
    ):
        response.outputs.add(name=name, datatype=datatype, shape=[1, 1])
        response.raw_output_contents.append(raw)
    return response


def test_a_call_of_grpc_has_the_picture_the_classes_and_the_headers(grpc_service: GrpcService, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    grpc_service.infer = lambda *_: answer()
    headers = {"authorization": "Bearer token", "x-api-key": "key"}
    with Client(grpc_service.url, MODEL_NAME, headers, protocol=Protocol.GRPC) as client:
        classes = client.predict(str(tmp_path / "a.jpg"), top_k=4)
    assert classes == [{"index": 281, "label": "tabby", "probability": 0.123457}]  # as in JSON
    [request] = grpc_service.asked
    assert (request.model_name, list(request.raw_input_contents)) == (MODEL_NAME, [b"\x02\x00\x00\x00\xff\xd8"])
    assert (request.inputs[0].datatype, list(request.inputs[0].shape)) == ("BYTES", [1])
    assert request.parameters["top_k"].int64_param == 4
    assert {name: grpc_service.headers[name] for name in headers} == headers


def test_a_name_in_the_url_is_sent_over_grpc(grpc_service: GrpcService, photograph: str) -> None:
    grpc_service.infer = lambda *_: answer()
    asked(grpc_service.url.replace("//", "//me:secret@"), Protocol.GRPC, photograph)  # pragma: allowlist secret
    assert grpc_service.headers["authorization"] == "Basic bWU6c2VjcmV0"


def test_grpc_over_tls_trusts_whom_it_is_told_to(photograph: str, tmp_path: Path, user_environment: None) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "a.example")
    pair = issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with running_grpc_service(grpc.ssl_server_credentials([pair])) as service:
        service.infer = lambda *_: answer()
        for headers in ({}, {"host": "a.example"}):
            with Client(service.url, MODEL_NAME, headers, tmp_path / "ca.pem", protocol=Protocol.GRPC) as client:
                assert client.predict(photograph, top_k=1)[0]["label"] == "tabby"
        assert "certificate" in refusal(service.url, Protocol.GRPC, photograph)


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        ("INVALID_ARGUMENT", "inputs[0]: not an image", "INVALID_ARGUMENT: inputs[0]: not an image"),
        ("UNAVAILABLE", "server: busy\nask again", "UNAVAILABLE: server: busy ask again"),
        ("RESOURCE_EXHAUSTED", "", "RESOURCE_EXHAUSTED: no reason given"),
        (
            "UNAUTHENTICATED",
            "credentials: none",
            "UNAUTHENTICATED: credentials: none: give --token-file, --gcloud-token or --header @FILE",
        ),
        (
            "UNIMPLEMENTED",
            "no such method",
            "UNIMPLEMENTED: no such method: URL, or a proxy before it, does not speak gRPC: give --protocol raw",
        ),
        ("DEADLINE_EXCEEDED", "", "no complete answer from URL in time (60 s)"),
    ],
)
def test_a_refusal_over_grpc_is_a_line(
    grpc_service: GrpcService, photograph: str, code: str, said: str, sentence: str
) -> None:
    grpc_service.refuse(grpc.StatusCode[code], said)
    told = refusal(grpc_service.url, Protocol.GRPC, photograph)
    assert told == f"{photograph}: {sentence.replace('URL', grpc_service.url)}"


@pytest.mark.parametrize(
    "change",
    [
        lambda response: response.raw_output_contents.pop(),
        lambda response: response.Clear(),
        lambda response: response.outputs[0].Clear(),
        lambda response: response.CopyFrom(answer(label=b"\xff\xff\xff\xff")),
        lambda response: response.CopyFrom(answer(label=element_of(b"\xff"))),
        lambda response: response.CopyFrom(answer(probability=b"\x00")),
        lambda response: response.CopyFrom(answer(probability=struct.pack("<f", 2))),
        lambda response: response.CopyFrom(answer(probability=struct.pack("<f", float("nan")))),
    ],
)
def test_an_answer_over_grpc_that_is_not_this_models_is_told_so(
    grpc_service: GrpcService, photograph: str, change: Callable[[Any], object]
) -> None:
    response = answer()
    change(response)
    grpc_service.infer = lambda *_: response
    told = refusal(grpc_service.url, Protocol.GRPC, photograph)
    assert told == f"{photograph}: {grpc_service.url} does not answer like this model: is it another server?"


def test_without_a_server_grpc_says_what_http_says(photograph: str, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    with pytest.raises(NoServer) as raised:
        asked(url, Protocol.GRPC, photograph)
    assert str(raised.value) == f"no server at {url}: start one with scripts/serve.sh, or give --url"


def test_a_server_that_speaks_no_grpc_is_told_so(website: Any, photograph: str) -> None:
    website.put("/v1/models", b"{}")
    with pytest.raises(NotClassified, match=r"does not speak gRPC: give --protocol raw$"):
        asked(website.url, Protocol.GRPC, photograph)


def test_a_url_with_a_path_is_none_of_grpc() -> None:
    with pytest.raises(NoUrl, match="gRPC allows no path in the URL"):
        Client("https://a.example/serving/cats", MODEL_NAME, protocol=Protocol.GRPC)


def test_grpc_is_imported_only_where_it_is_asked_for(importable: dict[str, str]) -> None:
    look = (
        "import sys; from pipeline.serving.client import Client; Client('http://127.0.0.1', 'alexnet'); "
        "print('grpc' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-P", "-c", look], env=importable, text=True) == "False\n"
