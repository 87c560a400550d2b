"""Explanations by a real TorchServe behind the front door, and their effect on predictions."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipeline.serving.torchserve import TorchServe
from reliability.pictures import base64_text


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs]


def explain_url(server: TorchServe, protocol: str = "v1") -> str:
    v1 = server.predict_url.replace(":predict", ":explain")
    return v1 if protocol == "v1" else v1.replace(":explain", "/explain").replace("/v1/", "/v2/")


def asked(*images: bytes, **parameters: Any) -> dict[str, Any]:
    return {"instances": [{"b64": base64_text(image)} for image in images], "parameters": parameters}


def test_each_form_over_http(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    url = explain_url(server)
    (grid,) = http.post(url, json=asked(images[0], form="grid")).raise_for_status().json()["explanations"]
    assert np.array(grid["grid"]).shape == (13, 13)
    for form, kind in (("overlay", "JPEG"), ("grey", "PNG")):
        (shown,) = http.post(url, json=asked(images[0], form=form)).raise_for_status().json()["explanations"]
        with Image.open(io.BytesIO(b64decode(shown["b64"]))) as picture:
            assert (picture.format, picture.size) == (kind, (224, 224))
    (raw,) = http.post(url, content=images[0], headers={"Content-Type": "image/jpeg"}).json()["explanations"]
    assert raw["form"] == "overlay"
    assert raw["class"] == grid["class"]


def test_v2_has_a_picture_behind_its_json(server: TorchServe, http: httpx.Client, images: list[bytes]) -> None:
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [base64_text(images[0])]}
    body = {"inputs": [tensor], "outputs": [{"name": "heat_map", "parameters": {"binary_data": True}}]}
    answer = http.post(explain_url(server, "v2"), json=body).raise_for_status()
    head = int(answer.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answer.content[:head])["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("heat_map", "BYTES", [1])
    with Image.open(io.BytesIO(answer.content[head + 4 :])) as picture:
        assert (picture.format, picture.size) == ("JPEG", (224, 224))


def test_a_prediction_has_the_same_answer_whoever_is_explained_beside_it(
    server: TorchServe, http: httpx.Client, images: list[bytes]
) -> None:
    """Explanations may be refused temporarily; neither they nor their refusals affect a prediction."""
    expected = [http.post(server.predict_url, json=asked(image)).raise_for_status().content for image in images]
    explained = http.post(explain_url(server), json=asked(*images[:2])).raise_for_status().json()["predictions"]
    assert explained == [json.loads(answer)["predictions"][0] for answer in expected[:2]]

    def ask(number: int) -> httpx.Response:
        if number % 3 == 0:
            return http.post(explain_url(server), json=asked(images[number % len(images)]))
        return http.post(server.predict_url, json=asked(images[number % len(images)]))

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(36)))
    for number, answer in enumerate(answers):
        if number % 3:
            assert (answer.status_code, answer.content) == (200, expected[number % len(images)])
        else:
            assert answer.status_code in (200, 503)
            assert answer.status_code == 200 or "Retry-After" in answer.headers
    assert any(answer.status_code == 200 for answer in answers[::3])


@pytest.mark.parametrize(
    ("parameters", "place"), [({"class": 1000}, "parameters.class"), ({"form": "png"}, "parameters.form")]
)
def test_what_cannot_be_explained_is_told(
    server: TorchServe, http: httpx.Client, images: list[bytes], parameters: dict[str, Any], place: str
) -> None:
    answer = http.post(explain_url(server), json=asked(images[0], **parameters))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{place}: expected ")
