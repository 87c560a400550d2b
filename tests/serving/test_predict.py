"""A real TorchServe with the real archive, over HTTP: every form of the wire, and every error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.serving.torchserve import TorchServe
from reliability.pictures import base64_text, encoded, gradient


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs]


def one(image: bytes) -> dict[str, Any]:
    return {"instances": [{"b64": base64_text(image)}]}


def labels(response: httpx.Response) -> list[list[str]]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    return [[entry["label"] for entry in prediction["classes"]] for prediction in response.json()["predictions"]]


def test_every_form_of_the_wire_gives_the_same_answer(
    server: TorchServe, http: httpx.Client, images: list[bytes]
) -> None:
    text = base64_text(images[0])
    answers = [
        http.post(server.predict_url, json={"instances": [form]}).json()
        for form in (
            {"b64": text},
            {"data": text},
            {"image": {"b64": text}},
            {"image_bytes": {"b64": text}},
            {"b64": "data:image/jpeg;base64," + text},
        )
    ]
    answers += [
        http.post(server.predict_url, content=images[0], headers={"Content-Type": content_type}).json()
        for content_type in ("image/jpeg", "application/octet-stream")
    ]
    answers.append(http.post(server.predict_url, content=images[0]).json())  # as `curl -T` does
    answers.append(http.post(server.predict_url, files={"data": images[0]}).json())  # as `curl -F` does
    assert "predictions" in answers[0]
    assert answers.count(answers[0]) == len(answers)


def test_a_charset_beside_the_content_type_does_not_matter(
    server: TorchServe, http: httpx.Client, images: list[bytes]
) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert labels(http.post(server.predict_url, content=json.dumps(one(images[0])), headers=headers))


def test_several_instances_and_top_k(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    body = {"instances": [{"b64": base64_text(image)} for image in images], "parameters": {"top_k": 3}}
    together = labels(http.post(server.predict_url, json=body))
    assert together == [
        labels(http.post(server.predict_url, json=one(image) | {"parameters": {"top_k": 3}}))[0] for image in images
    ]


def test_as_much_as_one_request_may_ask(server: TorchServe, http: httpx.Client) -> None:
    small = base64_text(encoded(gradient(64, 64), "JPEG"))
    for instances, top_k in ((64, 156), (10, 1000)):
        body = {"instances": [{"b64": small}] * instances, "parameters": {"top_k": top_k}}
        answer = labels(http.post(server.predict_url, json=body))
        assert [len(classes) for classes in answer] == [top_k] * instances
    body = {"instances": [{"b64": small}] * 64, "parameters": {"top_k": 157}}
    refused = http.post(server.predict_url, json=body)
    sentence = "parameters.top_k: more than 10000 classes for all instances together"
    assert (refused.status_code, refused.json()) == (413, {"error": sentence})


NOT_AN_IMAGE = "not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "body: not JSON (line 1, column 2: Expecting property name enclosed in double quotes)"),
        (b"", 400, "body: empty"),
        (b"{}", 400, "instances: expected a list of at least one instance"),
        (b'{"instances": [{"b64": "AAAA"}]}', 400, f"instances[0].b64: {NOT_AN_IMAGE}"),
        (
            b'{"instances": [{"url": "https://example.org/cat.jpg"}]}',
            403,
            "instances[0].url: not fetched: this server fetches no images by URL",
        ),
        (json.dumps({"instances": [{}] * 65}).encode(), 413, "instances: more than 64 instances"),
    ],
)
def test_json_errors(server: TorchServe, http: httpx.Client, body: bytes, status: int, error: str) -> None:
    response = http.post(server.predict_url, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()) == (status, {"error": error})
    assert response.headers["Content-Type"] == "application/json"
    assert response.reason_phrase


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("image/jpeg", "body: JSON instead of the bytes of an image: send it as application/json"),
        # curl's own word for what -d sends: the body decides.
        ("application/x-www-form-urlencoded", "instances: expected a list of at least one instance"),
    ],
)
def test_other_bodies_that_are_no_image(server: TorchServe, http: httpx.Client, content_type: str, error: str) -> None:
    response = http.post(server.predict_url, content=b'{"instances": []}', headers={"Content-Type": content_type})
    assert (response.status_code, response.json()) == (400, {"error": error})


def test_a_photograph_of_twelve_megapixels(server: TorchServe, http: httpx.Client) -> None:
    image = encoded(gradient(4032, 3024), "JPEG", quality=95)
    assert labels(http.post(server.predict_url, json=one(image)))


def test_an_image_at_the_limit_of_bytes_gets_through_and_one_more_byte_does_not(
    server: TorchServe, http: httpx.Client
) -> None:
    """The request size of config.properties fits the image size of model-config.yaml."""
    image = encoded(gradient(), "JPEG")
    at_limit = image + bytes(10 * 1024 * 1024 - len(image))  # decoders ignore what follows the end of an image
    assert labels(http.post(server.predict_url, json=one(at_limit)))
    response = http.post(server.predict_url, json=one(at_limit + b"\0"))
    assert (response.status_code, response.json()) == (413, {"error": "instances[0].b64: more than 10485760 bytes"})


def test_a_request_above_the_limit_is_413(server: TorchServe, http: httpx.Client) -> None:
    headers = {"Content-Type": "image/jpeg"}
    response = http.post(server.predict_url, content=bytes(16_777_217), headers=headers)
    assert (response.status_code, response.json()) == (413, {"error": "body: more than 16777216 bytes"})


@pytest.mark.parametrize("path", ["/predictions/alexnet", "/ping", "/invocations", "/api-description", "/models"])
def test_torchserves_own_routes_are_not_here(server: TorchServe, http: httpx.Client, path: str) -> None:
    for response in (http.get(server.url + path), http.post(server.url + path, content=b"{}")):
        assert response.status_code == 404
        assert response.json()["error"].startswith("path: ")


def test_eight_at_once_with_one_truncated(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    bodies = [one(images[n % len(images)]) for n in range(7)]
    alone = [labels(http.post(server.predict_url, json=body)) for body in bodies]
    bodies.insert(3, one(images[0][: len(images[0]) // 2]))
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda body: http.post(server.predict_url, json=body), bodies))
    refused = responses.pop(3)
    assert (refused.status_code, refused.json()) == (
        400,
        {"error": "instances[0].b64: the JPEG image is truncated or damaged"},
    )
    assert [labels(response) for response in responses] == alone


def test_many_good_and_bad_requests_at_once_each_get_their_own_answer(
    server: TorchServe, http: httpx.Client, images: list[bytes]
) -> None:
    expected = [labels(http.post(server.predict_url, json=one(image))) for image in images]

    def ask(number: int) -> None:
        which = number % len(images)
        if number % 3 == 2:
            response = http.post(server.predict_url, json=one(images[which][: 100 * number + 1]))
            assert response.status_code == 400
            assert response.json()["error"].startswith("instances[0].b64: ")
        else:
            assert labels(http.post(server.predict_url, json=one(images[which]))) == expected[which]

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(120)))


def test_requests_do_form_batches(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    """TorchServe counts what it handed over: the settings in model-config.yaml reached it."""
    (model,) = httpx.get(f"{server.management_url}/models/alexnet", trust_env=False).json()
    assert (model["batchSize"], model["maxBatchDelay"]) == (16, 1)


def test_curl_as_users_type_it(server: TorchServe, photographs: list[Path]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    command = [
        "curl",
        "-sS",
        "--data-binary",
        f"@{photographs[0]}",
        "-H",
        "Content-Type: image/jpeg",
        server.predict_url,
    ]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert len(json.loads(answer)["predictions"][0]["classes"]) == 5


def test_metrics_are_prometheus(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    labels(http.post(server.predict_url, json=one(images[0])))
    text = http.get(f"{server.metrics_url}/metrics").text
    assert 'ts_inference_requests_total{model_name="alexnet"' in text
    assert "PredictionTime{" in text


def test_models_can_neither_be_registered_nor_removed(server: TorchServe, http: httpx.Client) -> None:
    assert http.post(f"{server.management_url}/models?url=https://example.org/other.mar").status_code >= 400
    assert http.delete(f"{server.management_url}/models/alexnet").status_code >= 400
    assert [model["modelName"] for model in http.get(f"{server.management_url}/models").json()["models"]] == ["alexnet"]
