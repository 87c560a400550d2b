"""KServe v2 in a batch: the same predictions as v1 in every form, and never another request's answer."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reliability.pictures import base64_text, encoded, gradient
from tests.support.rows import MODEL, binary, elements

LENGTH = "inference-header-content-length"
Question = tuple[bytes, dict[str, str]]  # body, and headers


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs[:3]]


def tensor(datatype: str, shape: list[Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": datatype, "shape": shape, **more}]}


def in_json(*images: bytes, **more: Any) -> Question:
    document = {**tensor("BYTES", [len(images)], data=list(map(base64_text, images))), **more}
    return json.dumps(document).encode(), {"x-client-protocol": "v2"}


def in_bytes(*images: bytes, **more: Any) -> Question:
    content = elements(*images)
    document = {**tensor("BYTES", [len(images), 1], parameters={"binary_data_size": len(content)}), **more}
    body, length = binary(document, content)
    return body, {"x-client-protocol": "v2", LENGTH: length}


def in_pixels(*shown: np.ndarray, **more: Any) -> Question:
    content = np.stack(shown)
    document = {**tensor("UINT8", list(content.shape), parameters={"binary_data_size": content.nbytes}), **more}
    body, length = binary(document, content.tobytes())
    return body, {"x-client-protocol": "v2", LENGTH: length}


def over_grpc(*images: bytes, **more: Any) -> Question:
    document = {**tensor("BYTES", [str(len(images))]), "raw_input_contents": [base64_text(elements(*images))], **more}
    return json.dumps(document).encode(), {"x-client-protocol": "grpc"}


def in_v1(*images: bytes, **parameters: Any) -> Question:
    document = {"instances": [{"b64": base64_text(image)} for image in images], "parameters": parameters}
    return json.dumps(document).encode(), {"x-client-protocol": "v1"}


def ask(worker: Any, *questions: Question) -> list[tuple[int, str, bytes]]:
    """Sends all in one batch."""
    rows = [{"body": bytearray(body)} for body, _ in questions]
    answers: list[tuple[int, str, bytes]] = worker.raw(rows, [headers for _, headers in questions])
    return answers


def outputs(answer: tuple[int, str, bytes]) -> dict[str, list[Any]]:
    """The data of each output, row by row."""
    status, content_type, body = answer
    assert (status, content_type) == (200, "application/json"), body
    document = json.loads(body)
    assert document["model_name"] == MODEL
    found = {}
    for output in document["outputs"]:
        rows, columns = output["shape"]
        assert len(output["data"]) == rows * columns
        found[output["name"]] = [output["data"][row * columns :][:columns] for row in range(rows)]
    return found


def predictions(answer: tuple[int, str, bytes]) -> dict[str, list[Any]]:
    """The same for a v1 answer."""
    status, _, body = answer
    assert status == 200, body
    shown = [prediction["classes"] for prediction in json.loads(body)["predictions"]]
    return {
        name: [[scored[name] for scored in classes] for classes in shown] for name in ("label", "index", "probability")
    }


def flat(rows: list[list[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def test_every_form_has_the_predictions_of_v1(worker: Any, images: list[bytes]) -> None:
    asked: dict[str, Any] = {"parameters": {"top_k": 3}}
    v1, first, second, third = ask(
        worker,
        in_v1(*images, top_k=3),
        in_json(*images, **asked),
        in_bytes(*images, **asked),
        over_grpc(*images, **asked),
    )
    expected = predictions(v1)
    assert [len(labels) for labels in expected["label"]] == [3] * len(images)
    assert outputs(first) == outputs(second) == expected
    grpc = json.loads(third[2])
    raw = [base64.b64decode(content) for content in grpc["raw_output_contents"]]
    assert [output["name"] for output in grpc["outputs"]] == ["label", "index", "probability"]
    assert raw[0] == elements(*(label.encode() for labels in expected["label"] for label in labels))
    assert np.frombuffer(raw[1], "<i8").tolist() == flat(expected["index"])
    assert [float(f"{value:.6g}") for value in np.frombuffer(raw[2], "<f4").tolist()] == flat(expected["probability"])


def test_bytes_are_answered_with_bytes_where_they_are_wanted(worker: Any, images: list[bytes]) -> None:
    packed, plain = ask(worker, in_bytes(*images, parameters={"binary_data_output": True}), in_json(*images))
    status, content_type, body = packed
    (length,) = worker.told("Inference-Header-Content-Length", 1)
    assert (status, content_type) == (200, "application/octet-stream")
    head, rest = json.loads(body[: int(length)]), body[int(length) :]
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert sum(sizes) == len(rest)
    expected = outputs(plain)
    assert np.frombuffer(rest[sizes[0] :][: sizes[1]], "<i8").tolist() == flat(expected["index"])


def test_pixels_are_answered_as_their_png(worker: Any) -> None:
    shown = [np.asarray(gradient(300 + 7 * n, 280).convert("RGB")) for n in (0, 0)]
    files = [encoded(Image.fromarray(image), "PNG") for image in shown]
    numbers = json.dumps(tensor("UINT8", [1, *shown[0].shape], data=shown[:1]), default=np.ndarray.tolist).encode()
    v1, packed, plain = ask(worker, in_v1(*files), in_pixels(*shown), (numbers, {}))
    assert outputs(packed) == predictions(v1)
    assert outputs(plain) == {name: rows[:1] for name, rows in predictions(v1).items()}


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_pixels_of_any_shape_are_answered(worker: Any, shape: tuple[int, int]) -> None:
    shown = np.arange(shape[0] * shape[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(*shape, 3)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    v1, v2 = ask(worker, in_v1(file.getvalue()), in_pixels(shown))
    assert outputs(v2) == predictions(v1)


def test_base64_is_taken_in_bytes_too(worker: Any, images: list[bytes]) -> None:
    """Clients put all kinds of data into a BYTES tensor, and send it in different forms."""
    text = base64_text(images[0])
    prefixed = f"data:image/jpeg;base64,{text}"
    url_safe = text.replace("+", "-").replace("/", "_").rstrip("=")
    plain = in_v1(images[0])
    answers = ask(worker, plain, *(in_bytes(form.encode()) for form in (text, prefixed, url_safe)))
    assert [outputs(answer) for answer in answers[1:]] == [predictions(answers[0])] * 3
    shown = [json.dumps(tensor("BYTES", [1], data=[form])).encode() for form in (text, prefixed, url_safe)]
    assert [outputs(answer) for answer in ask(worker, *((body, {}) for body in shown))] == [predictions(answers[0])] * 3


NOT_AN_IMAGE = "not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (in_json(b"forged"), f"inputs[0].data[0]: {NOT_AN_IMAGE}"),
        (in_bytes(b"forged"), f"inputs[0].data[0]: {NOT_AN_IMAGE}"),
        (over_grpc(b"forged"), f"raw_input_contents[0][0]: {NOT_AN_IMAGE}"),
        (in_bytes(b""), f"inputs[0].data[0]: {NOT_AN_IMAGE}"),
        (
            in_bytes(b'{"b64": ""}'),
            "inputs[0].data[0]: JSON instead of the bytes of an image or their base64",
        ),
        (
            in_json(base64.b64encode(b"\xff\xd8\xff" * 90)),
            "inputs[0].data[0]: it decodes to base64: encode the image's bytes once",
        ),
        (
            in_json(encoded(gradient(64, 64), "JPEG")[:-100]),
            "inputs[0].data[0]: the JPEG image is truncated or damaged",
        ),
        ((b"{", {"x-client-protocol": "v2"}), "body: not JSON (line 1, column 2: "),
        ((b"", {"x-client-protocol": "v2"}), "body: empty"),
        ((b"", {"x-client-protocol": "grpc"}), "body: empty"),
        ((b"x", {"x-client-protocol": "v2", LENGTH: "2"}), "Inference-Header-Content-Length: expected a number of "),
    ],
)
def test_one_requests_fault_touches_nobody(worker: Any, images: list[bytes], wrong: Question, sentence: str) -> None:
    good = [in_json(images[0]), in_v1(images[1]), in_bytes(images[2])]
    expected = ask(worker, *good)
    first, refused, *others = ask(worker, good[0], wrong, *good[1:])
    assert [first, *others] == expected
    status, content_type, body = refused
    assert (status, content_type) == (400, "application/json")
    assert json.loads(body)["error"].startswith(sentence)


def test_too_many_pixels_are_told_at_the_inputs(worker: Any) -> None:
    image = encoded(Image.new("L", (7000, 7000)), "PNG")
    (answer,) = ask(worker, in_bytes(*[image] * 3))
    assert (answer[0], json.loads(answer[2])) == (413, {"error": "inputs: more than 100000000 pixels"})


def test_an_image_may_be_as_large_as_in_v1(worker: Any) -> None:
    (answer,) = ask(worker, in_bytes(b"\xff\xd8\xff" + bytes(10 << 20)))
    assert (answer[0], json.loads(answer[2])) == (413, {"error": "inputs[0].data[0]: more than 10485760 bytes"})
