"""KServe v2 from common clients, as their users write it: tritonclient and KServe's SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text
from tests.support.rows import binary, elements

kserve = pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")
triton = pytest.importorskip("tritonclient.http", reason="it is only installed for Python below 3.14")
pytestmark = pytest.mark.slow

PATIENCE_S = 60
OUTPUTS = ("label", "index", "probability")
DATATYPES = {"label": "BYTES", "index": "INT64", "probability": "FP32"}


@pytest.fixture
def client(door_url: str) -> Iterator[Any]:
    made = triton.InferenceServerClient(door_url.removeprefix("http://"), network_timeout=PATIENCE_S)
    yield made
    made.close()


def of_bytes(*contents: bytes, binary_data: bool = True) -> Any:
    made = triton.InferInput("images", [len(contents)], "BYTES")
    return made.set_data_from_numpy(np.array([*contents, None], dtype=object)[:-1], binary_data=binary_data)


def check(found: Any, expected: dict[str, list[list[Any]]]) -> None:
    """found: either client's as_numpy."""
    labels = found("label")
    texts = [[label.decode() if isinstance(label, bytes) else label for label in row] for row in labels.tolist()]
    assert texts == expected["label"]
    assert found("index").dtype == np.int64
    assert found("index").tolist() == expected["index"]
    assert found("probability").dtype == np.float32
    np.testing.assert_allclose(found("probability"), np.array(expected["probability"], np.float32), rtol=1e-5)


def test_triton_finds_it_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL_NAME)
    assert client.get_server_metadata()["name"] == MODEL_NAME


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_triton_sends_and_gets_bytes(
    client: Any, images: list[bytes], expected: dict[str, Any], compression: str | None
) -> None:
    found = client.infer(
        MODEL_NAME,
        [of_bytes(*images)],
        request_id="7",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    check(found.as_numpy, expected)
    assert found.get_response()["id"] == "7"
    assert found.get_response()["model_name"] == MODEL_NAME


def test_triton_sends_and_gets_json(client: Any, images: list[bytes], expected: dict[str, Any]) -> None:
    texts = [base64_text(image).encode() for image in images]
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    check(client.infer(MODEL_NAME, [of_bytes(*texts, binary_data=False)], outputs=wanted).as_numpy, expected)


def test_triton_asks_for_what_the_metadata_says(client: Any, images: list[bytes]) -> None:
    told = client.get_model_metadata(MODEL_NAME)
    (tensor,) = told["inputs"]
    assert tensor["shape"] == [-1]
    question = triton.InferInput(tensor["name"], [len(images)], tensor["datatype"])
    question.set_data_from_numpy(np.array([*images, None], dtype=object)[:-1])
    wanted = [triton.InferRequestedOutput(output["name"]) for output in told["outputs"]]
    found = client.infer(MODEL_NAME, [question], outputs=wanted, parameters={"top_k": 2})
    assert {output["name"]: output["datatype"] for output in told["outputs"]} == DATATYPES
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    for output in told["outputs"]:
        assert output["shape"] == [-1, -1]
        assert found.as_numpy(output["name"]).shape == (len(images), 2)


@pytest.mark.parametrize("binary_data", [True, False])
def test_triton_sends_pixels(client: Any, binary_data: bool) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    question = triton.InferInput("images", list(shown.shape), "UINT8").set_data_from_numpy(shown, binary_data)
    found = client.infer(MODEL_NAME, [question])
    assert found.as_numpy("label").shape == (2, 5)


def test_triton_selects_and_mixes(client: Any, images: list[bytes], expected: dict[str, Any]) -> None:
    wanted = [triton.InferRequestedOutput("probability"), triton.InferRequestedOutput("label", binary_data=False)]
    found = client.infer(MODEL_NAME, [of_bytes(*images)], outputs=wanted)
    assert [output["name"] for output in found.get_response()["outputs"]] == ["probability", "label"]
    assert found.as_numpy("index") is None
    assert found.as_numpy("label").tolist() == expected["label"]  # text, as in JSON


def test_triton_reads_why_it_is_refused(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match=r"^\[400\] inputs\[0\]\.data\[0\]: not an image \("):
        client.infer(MODEL_NAME, [of_bytes(b"forged")])


async def infer(url: str, request: Any) -> Any:
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", timeout=PATIENCE_S, retries=0))
    try:
        return await client.infer(url, request, model_name=MODEL_NAME)
    finally:
        await client.close()


@pytest.mark.parametrize("binary_data", [True, False])
def test_kserves_sdk(door_url: str, images: list[bytes], expected: dict[str, Any], binary_data: bool) -> None:
    tensor = kserve.InferInput("images", [len(images)], "BYTES")
    contents: list[Any] = images if binary_data else [base64_text(image) for image in images]
    tensor.set_data_from_numpy(np.array([*contents, None], dtype=object)[:-1], binary_data=binary_data)
    parameters = {"binary_data_output": binary_data, "top_k": 5}
    request = kserve.InferRequest(MODEL_NAME, [tensor], request_id="7", parameters=parameters)
    answer = asyncio.run(infer(door_url, request))
    assert (answer.id, answer.model_name) == ("7", MODEL_NAME)
    check(lambda name: answer.get_output_by_name(name).as_numpy().astype(NUMPY[name]), expected)


NUMPY = {"label": object, "index": np.int64, "probability": np.float32}


def test_kserves_sdk_with_data_of_ones_own(door_url: str, images: list[bytes], expected: dict[str, Any]) -> None:
    tensor = kserve.InferInput("images", [len(images)], "BYTES", data=[base64_text(image) for image in images])
    wanted = [kserve.protocol.infer_type.RequestedOutput(name) for name in ("index",)]
    request = kserve.InferRequest(MODEL_NAME, [tensor], request_outputs=wanted)
    answer = asyncio.run(infer(door_url, request))
    (output,) = answer.outputs
    assert output.as_numpy().tolist() == expected["index"]


# --- Without the front door -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind(directory: Path) -> Iterator[TorchServe]:
    with TorchServe(directory, MODEL_NAME, Ports.any_free(), environment={"FRONT_DOOR": "none"}) as running:
        yield running


@pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "inference-header-content-length"])
@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/json"])
def test_torchserve_itself_answers_it(
    behind: TorchServe, images: list[bytes], expected: dict[str, Any], name: str, content_type: str | None
) -> None:
    """As in KServe's stock runtime: the path is unknown, and the header decides."""
    url = f"{behind.url}/v2/models/{MODEL_NAME}/infer"
    content = elements(*images)
    tensor = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(content)}}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    body, length = binary(document, content)
    headers = {name: length} | ({"Content-Type": content_type} if content_type else {})
    answer = httpx.post(url, content=body, headers=headers, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == 200, answer.content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    head = json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])
    assert [output["name"] for output in head["outputs"]] == list(OUTPUTS)
    plain = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": list(map(base64_text, images))}]}
    answer = httpx.post(url, json=plain, timeout=PATIENCE_S, trust_env=False)
    found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert found["index"] == [index for row in expected["index"] for index in row]
