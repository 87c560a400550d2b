"""Requests to :explain through the handler, alone and together with predictions."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from entry import Handler
from reliability.pictures import base64_text

EXPLAIN = {"explain": "True"}


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs]


def body(*images: bytes, **parameters: Any) -> bytearray:
    said = {"instances": [{"b64": base64_text(image)} for image in images], "parameters": parameters}
    return bytearray(json.dumps(said).encode())


def explained(answer: tuple[int, str, bytes]) -> tuple[list[Any], list[Any]]:
    status, content_type, text = answer
    assert (status, content_type) == (200, "application/json"), text
    said = json.loads(text)
    return said["predictions"], said["explanations"]


def test_an_explanation_comes_with_the_prediction_and_in_its_order(worker: Any, images: list[bytes]) -> None:
    (predicted,) = worker.raw([{"body": body(*images)}], [{}])
    (answer,) = worker.raw([{"body": body(*images)}], [EXPLAIN])
    predictions, explanations = explained(answer)
    assert predictions == json.loads(predicted[2])["predictions"]  # to the last digit shown
    assert [each["class"] for each in explanations] == [each["classes"][0] for each in predictions]
    for each in explanations:
        assert (each["form"], each["content_type"]) == ("overlay", "image/jpeg")
        with Image.open(io.BytesIO(b64decode(each["b64"]))) as shown:
            assert (shown.format, shown.size, shown.mode) == ("JPEG", (224, 224), "RGB")


def test_in_one_batch_predictions_and_explanations_are_as_if_alone(worker: Any, images: list[bytes]) -> None:
    asked = [
        ({"body": body(images[0])}, {}),
        ({"body": body(images[1])}, EXPLAIN),
        ({"body": bytearray(images[2])}, {}),
    ]
    asked.append(({"body": bytearray(b"{}")}, EXPLAIN))
    together = worker.raw([row for row, _ in asked], [headers for _, headers in asked])
    alone = [worker.raw([row], [headers])[0] for row, headers in asked]
    assert [status for status, _, _ in together] == [200, 200, 200, 400]
    for mixed, single in zip(together, alone, strict=True):
        ours, theirs = json.loads(mixed[2]), json.loads(single[2])
        assert ours.get("predictions") == theirs.get("predictions")
        assert ours.keys() == theirs.keys()
    assert "explanations" not in json.loads(together[0][2])


def only(worker: Any, image: bytes, **parameters: Any) -> Any:
    ((_, (one,)),) = [explained(answer) for answer in worker.raw([{"body": body(image, **parameters)}], [EXPLAIN])]
    return one


def test_a_grid_is_numbers_and_grey_a_png(worker: Any, images: list[bytes]) -> None:
    one = only(worker, images[0], **{"class": 7}, form="grid")
    assert one["class"]["index"] == 7
    assert 0 < one["class"]["probability"] < 1
    grid = np.array(one["grid"])
    assert (grid.shape, grid.min(), grid.max()) == ((13, 13), 0, 1)
    one = only(worker, images[0], **{"class": 7}, form="grey")
    with Image.open(io.BytesIO(b64decode(one["b64"]))) as shown:
        assert (shown.format, shown.size, shown.mode, one["content_type"]) == ("PNG", (224, 224), "L", "image/png")
        small = np.asarray(shown.resize((13, 13), Image.Resampling.BOX)) / 255
    assert np.corrcoef(small.ravel(), grid.ravel())[0, 1] > 0.9  # both show the same


def test_v2_has_the_same_maps(worker: Any, images: list[bytes]) -> None:
    one = only(worker, images[0], form="grid")
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [base64_text(images[0])]}
    asked = bytearray(json.dumps({"inputs": [tensor], "parameters": {"form": "grid"}}).encode())
    ((status, _, text),) = worker.raw([{"body": asked}], [EXPLAIN | {"x-client-protocol": "v2"}])
    assert status == 200, text
    outputs = {output["name"]: output for output in json.loads(text)["outputs"]}
    assert outputs["explained"]["data"] == [one["class"]["index"]]
    assert outputs["heat_map"]["shape"] == [1, 13, 13]
    np.testing.assert_allclose(np.ravel(outputs["heat_map"]["data"]), np.ravel(one["grid"]), atol=1e-6)


@pytest.mark.parametrize("index", [-1, 1000, 10**9])
def test_a_class_that_does_not_exist_is_refused(worker: Any, images: list[bytes], index: int) -> None:
    rows = [{"body": body(images[0], **{"class": index})}, {"body": body(images[1])}]
    refused, predicted = worker.raw(rows, [EXPLAIN, {}])
    assert refused[0] == 400
    assert json.loads(refused[2]) == {"error": "parameters.class: expected an index from 0 to 999"}
    assert predicted[0] == 200


def test_more_than_a_batch_has_time_for_is_refused(
    handler: Handler, worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler._explainer, "image_s", 0.45)  # a batch has time for two
    three, two, one, predicted = worker.raw(
        [
            {"body": body(*images[:3])},
            {"body": body(*images[:2])},
            {"body": body(images[0])},
            {"body": body(images[0])},
        ],
        [EXPLAIN, EXPLAIN, EXPLAIN, {}],
    )
    assert [three[0], two[0], one[0], predicted[0]] == [413, 200, 503, 200]
    assert json.loads(three[2])["error"].startswith("instances: more than 2 images: this model does not explain more")


def test_a_model_that_explains_nothing_says_so(
    handler: Handler, worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler._explainer, "refusal", "this model cannot be explained: …; use :predict")
    refused, predicted = worker.raw([{"body": body(images[0])}, {"body": body(images[1])}], [EXPLAIN, {}])
    assert (refused[0], predicted[0]) == (400, 200)
    assert json.loads(refused[2])["error"].startswith("body: this model cannot be explained")


def test_a_map_that_fails_is_its_requests_fault_alone(
    handler: Handler, worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = handler._explainer.heat

    def failing(image: np.ndarray, class_index: int) -> np.ndarray:
        if class_index == 7:
            raise ArithmeticError("not finite")
        return heat(image, class_index)

    monkeypatch.setattr(handler._explainer, "heat", failing)
    rows = [{"body": body(images[0], **{"class": 7})}, {"body": body(images[1])}, {"body": body(images[2])}]
    assert [status for status, _, _ in worker.raw(rows, [EXPLAIN, EXPLAIN, {}])] == [500, 200, 200]


def test_an_answer_that_would_be_too_long_is_refused(
    worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen answers must fit into TorchServe's limit for a worker's response; otherwise the worker would be lost."""
    monkeypatch.setattr("entry.ANSWER_BYTES", 20_000)
    long, short = worker.raw([{"body": body(*images[:4])}, {"body": body(images[0])}], [EXPLAIN, EXPLAIN])
    assert (long[0], short[0]) == (413, 200)
    assert json.loads(long[2]) == {
        "error": "explanations: more than 20000 bytes: ask for fewer images or fewer classes"
    }
