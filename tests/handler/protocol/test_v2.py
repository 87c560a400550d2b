"""KServe v2: bodies in, requests out; predictions in, tensors out; in JSON, with bytes after it, and in gRPC's JSON."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.rows import MODEL, VERSION, binary, elements, row
from vision.errors import RequestError
from vision.image.source import Element
from vision.protocol import protocols
from vision.protocol.answer import Answer, Explanation, Prediction, Response, ScoredClass
from vision.protocol.json_body import MAX_NUMBERS
from vision.protocol.request import Request, V2Answer, Verb, Wish
from vision.worker.settings import Limits

NAMES = ("label", "index", "probability")
JPEG = b"\xff\xd8\xff"


def images(*data: Any, **changed: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "BYTES", "shape": [len(data)], "data": list(data), **changed}


def pixels(*shape: int, data: Any, **changed: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": list(shape), "data": data, **changed}


def behind(datatype: str, shape: list[int], size: Any, **changed: Any) -> dict[str, Any]:
    return {
        "name": "images",
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
        **changed,
    }


def body(tensor: Any, **fields: Any) -> dict[str, Any]:
    return {"inputs": [tensor], **fields}


def parse(document: Any, limits: Limits, protocol: str | None = "v2", explain: bool = False, **headers: Any) -> Request:
    return protocols.parse(row(document, protocol, explain, **headers), limits)


def parse_binary(document: Any, tensor: bytes, limits: Limits, **headers: Any) -> Request:
    content, length = binary(document, tensor)
    return parse(content, limits, inference_header_content_length=length, **headers)


def refusal(
    document: Any, limits: Limits, protocol: str | None = "v2", explain: bool = False, **headers: Any
) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        parse(document, limits, protocol, explain, **headers)
    return caught.value.status, str(caught.value)


def refusal_of_binary(document: Any, tensor: bytes, limits: Limits) -> tuple[int, str]:
    content, length = binary(document, tensor)
    return refusal(content, limits, inference_header_content_length=length)


class TestImages:
    @pytest.mark.parametrize("protocol", ["v2", None])
    @pytest.mark.parametrize("changed", [{}, {"shape": [2, 1]}, {"shape": [2, 1], "data": [["QUJD"], ["QUJE"]]}])
    def test_base64_in_json(self, protocol: str | None, changed: dict[str, Any], limits: Limits) -> None:
        request = parse(body(images("QUJD", "QUJE", **changed), id="7"), limits, protocol)
        assert request.instances == [Element("QUJD"), Element("QUJE")]
        assert request.places == ["inputs[0].data[0]", "inputs[0].data[1]"]
        assert (request.top_k, request.verb, request.wish) == (5, Verb.PREDICT, None)
        assert request.v2 == V2Answer(MODEL, VERSION, "7", tuple((name, False) for name in NAMES))

    def test_json_that_torchserve_has_parsed(self, limits: Limits) -> None:
        asked = row({})
        asked.fields["body"] = body(images("QUJD"))
        assert protocols.parse(asked, limits).instances == [Element("QUJD")]

    @pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "inference-header-content-length"])
    @pytest.mark.parametrize("protocol", ["v2", None])
    def test_bytes_behind_the_json(self, name: str, protocol: str | None, limits: Limits) -> None:
        tensor = elements(b"first", b"", b"the third")
        content, length = binary(body(behind("BYTES", [3], len(tensor))), tensor)
        headers: dict[str, Any] = {name: length}
        request = parse(bytearray(content), limits, protocol, **headers)
        assert request.instances == [Element(b"first"), Element(b""), Element(b"the third")]
        assert request.places[2] == "inputs[0].data[2]"

    def test_the_head_may_be_all(self, limits: Limits) -> None:
        document = body(images("QUJD"))
        request = parse(document, limits, inference_header_content_length=str(len(json.dumps(document))))
        assert request.instances == [Element("QUJD")]

    @pytest.mark.parametrize("nested", [True, False])
    def test_pixels_in_json(self, nested: bool, limits: Limits) -> None:
        shown = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
        data = (shown if nested else shown.ravel()).tolist()
        first, second = parse(body(pixels(2, 4, 5, 3, data=data)), limits).instances
        np.testing.assert_array_equal([first, second], shown)

    def test_pixels_behind_the_json(self, limits: Limits) -> None:
        shown = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
        request = parse_binary(body(behind("UINT8", [2, 4, 5, 3], shown.nbytes)), shown.tobytes(), limits)
        np.testing.assert_array_equal(request.instances, shown)
        assert request.places == ["inputs[0].data[0]", "inputs[0].data[1]"]

    def test_as_many_numbers_as_are_taken_and_no_more(self, limits: Limits) -> None:
        side = 577
        (shown,) = parse(body(pixels(1, side, side, 3, data=[7] * (side * side * 3))), limits).instances
        assert isinstance(shown, np.ndarray)
        assert shown.shape == (side, side, 3)
        sentence = (
            f"inputs: more than {MAX_NUMBERS} numbers: send pixels as bytes after the JSON "
            "(Inference-Header-Content-Length)"
        )
        side += 1
        large = body(pixels(1, side, side, 3, data=[7] * (side * side * 3)))
        assert refusal(large, limits) == (413, sentence)
        assert refusal(large, limits, None) == (413, sentence)

    @pytest.mark.parametrize("repeated", ['"",', "{},", '{"a": 1},', '"0",'])
    def test_what_is_no_number_is_counted_as_before(self, repeated: str, limits: Limits) -> None:
        for before in ("", "1," * 20_000):
            document = '{"inputs": [{"data": [' + before + repeated * 20_001
            assert refusal(document.encode(), limits) == (413, "body: more than 10000 values")


IMAGES = images("QUJD")
EXPECTED = 'inputs: expected a list of one tensor: {"name": "images", "datatype": "BYTES", "shape": [1], '
SHAPE = "inputs[0].shape: expected "
INTEGERS = f"{SHAPE}integers from 1 to 2147483647"
VALUES = "inputs[0].data: has {} values, but the shape says {}"
BYTE = "inputs[0].data: expected integers from 0 to 255"
BINARY = "inputs[0].parameters.binary_data_size: "


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], 'body: expected a JSON object {"inputs": […]}'),
        ({}, EXPECTED),
        ({"inputs": None}, EXPECTED),
        ({"inputs": []}, EXPECTED),
        ({"inputs": {"images": ["QUJD"]}}, EXPECTED),
        ({"inputs": [IMAGES, IMAGES]}, "inputs: expected one tensor with all images, not 2"),
        ({"inputs": ["QUJD"]}, "inputs[0]: expected an object: "),
        (body({**IMAGES, "name": 5}), "inputs[0].name: expected text"),
        (body({key: IMAGES[key] for key in ("datatype", "shape", "data")}), "inputs[0].name: expected text"),
        *(
            (body({**IMAGES, "datatype": datatype}), "inputs[0].datatype: expected BYTES (image files) or ")
            for datatype in ("FP32", "bytes", "STRING", None, 5, ["BYTES"])
        ),
        *(
            (body({**IMAGES, "shape": shape}), f"{SHAPE}a list of 1 to 4 integers")
            for shape in (None, 1, "1", [], [1] * 5, {"0": 1}, [1] * 1000)
        ),
        *(
            (body({**IMAGES, "shape": shape}), INTEGERS)
            for shape in ([0], [-1], [True], ["1"], [1.0], [None], [2**31], [10**400], [[1]])
        ),
        *(
            (body({**IMAGES, "shape": shape}), f"{SHAPE}[n] or [n, 1] for BYTES")
            for shape in ([1, 2], [1, 1, 1], [1, 1, 1, 3])
        ),
        *(
            (body(pixels(*shape, data=[])), f"{SHAPE}[n, height, width, 3] for UINT8")
            for shape in ([1], [4, 4, 3], [1, 3, 4, 4], [1, 4, 4, 4], [1, 4, 4, 1])
        ),
        (body(images(*["QUJD"] * 3, shape=[2])), VALUES.format(3, 2)),
        (body(images(shape=[2])), VALUES.format(0, 2)),
        (body(images("QUJD", shape=[2, 1])), VALUES.format(1, 2)),
        (body(images("QUJD", data="QUJD")), "inputs[0].data: expected a list"),
        (body(images("QUJD", data={"0": "QUJD"})), "inputs[0].data: expected a list"),
        (body(images(["QUJD"])), "inputs[0].data[0]: expected base64 text"),
        (body(images("QUJD", {"b64": "QUJD"})), "inputs[0].data[1]: expected base64 text"),
        (body(images(None)), "inputs[0].data[0]: expected base64 text"),
        (body(images(["QUJD", "QUJD"], shape=[1, 1])), "inputs[0].data: expected 1 values in each list at depth 1, "),
        (body(images(["QUJD"], "QUJD", shape=[2, 1])), "inputs[0].data: expected 1 values in each list at depth 1, "),
        (body({key: IMAGES[key] for key in ("name", "datatype", "shape")}), "inputs[0]: has neither data nor "),
        (body(pixels(1, 1, 1, 3, data=[1, 2])), VALUES.format(2, 3)),
        (body(pixels(2**31 - 1, 1, 1, 3, data=[1, 2, 3])), None),
        (body(pixels(1, 2**31 - 1, 2**31 - 1, 3, data=[1, 2, 3])), VALUES.format(3, 3 * (2**31 - 1) ** 2)),
        *(
            (body(pixels(1, 1, 1, 3, data=[1, 2, wrong])), BYTE)
            for wrong in (-1, 256, 1.0, True, None, "1", [1], 10**30)
        ),
        (
            body(pixels(1, 1, 2, 3, data=[[[[1, 2, 3], [1, 2]]]])),
            "inputs[0].data: expected 3 values in each list at depth 3, ",
        ),
        (body(pixels(1, 1, 2, 3, data=[[[[1, 2, 3]]]])), "inputs[0].data: expected 2 values in each list at depth 2, "),
        (body(pixels(1, 1, 1, 3, data=[[1, 2, 3]])), "inputs[0].data: expected 1 values in each list at depth 1, "),
        (body(pixels(2, 1, 1, 3, data=[[[[1, 2, 3]]]])), VALUES.format(3, 6)),
        (body({**IMAGES, "parameters": 5}), "inputs[0].parameters: expected an object"),
        (body({**IMAGES, "parameters": {"binary_data_size": 7}}), "inputs[0]: has both data and binary_data_size"),
        (
            body(behind("BYTES", [1], 7)),
            f"{BINARY}no bytes follow the JSON: Inference-Header-Content-Length ",
        ),
        *(
            (body(behind("BYTES", [1], size)), f"{BINARY}expected a number of bytes")
            for size in (-1, True, "7", 7.0, [7], 2**31)
        ),
        *(
            (body({**IMAGES, "parameters": {f"shared_memory_{name}": 1}}), "inputs[0].parameters: shared memory ")
            for name in ("region", "byte_size", "offset")
        ),
        (body(IMAGES, outputs={}), "outputs: expected a list"),
        (body(IMAGES, outputs=["label"]), 'outputs[0]: expected an object: {"name": "label"}'),
        *(
            (
                body(IMAGES, outputs=[{"name": name}]),
                "outputs[0].name: no such output: the model has label, index and probability",
            )
            for name in ("scores", None, 5, ["label"], "heat_map")
        ),
        (body(IMAGES, outputs=[{"name": "label"}, {"name": "label"}]), "outputs[1].name: is given twice"),
        (body(IMAGES, outputs=[{"name": "label"}] * 4_000), "outputs: too many: the model has label, "),
        (
            body(IMAGES, outputs=[{"name": "label", "parameters": {"binary_data": 1}}]),
            "outputs[0].parameters.binary_data: expected true or false",
        ),
        (
            body(IMAGES, outputs=[{"name": "label", "parameters": {"classification": 3}}]),
            "outputs[0].parameters: classification is not supported: use the request's parameters.top_k",
        ),
        (
            body(IMAGES, outputs=[{"name": "label", "parameters": {"shared_memory_region": "r"}}]),
            "outputs[0].parameters: shared memory is not supported: ",
        ),
        (body(IMAGES, parameters=5), "parameters: expected an object"),
        (
            body(IMAGES, parameters={"binary_data_output": "true"}),
            "parameters.binary_data_output: expected true or false",
        ),
        *(
            (body(IMAGES, id=wrong), "id: expected text of at most 256 characters")
            for wrong in (5, ["7"], {"id": "7"}, "x" * 257)
        ),
        *(
            (body(IMAGES, parameters={"top_k": top_k}), "parameters.top_k: expected an integer from 1 to 1000")
            for top_k in (0, -1, 1001, 5.0, "5", True, None)
        ),
        (body(IMAGES, parameters={"topk": 5}), "parameters: the name must be top_k: "),
        (body(IMAGES, top_k=5), 'top_k: is in the wrong place: send {"inputs": […], "parameters": {"top_k": 5}}, or '),
        (body({**IMAGES, "top_k": 5}), 'inputs[0]: top_k applies to all images: {"inputs": […], "parameters": '),
        (body({**IMAGES, "parameters": {"top_k": 5}}), "inputs[0]: top_k applies to all images: "),
        (
            body(IMAGES, outputs=[{"name": "label", "parameters": {"top_k": 5}}]),
            "outputs[0]: top_k applies to all images",
        ),
        (
            body(IMAGES, parameters={"class": 5}),
            "parameters.class: is only for explanations: /v2/models/alexnet/explain",
        ),
        (
            body(IMAGES, parameters={"form": "grid"}),
            "parameters.form: is only for explanations: /v2/models/alexnet/explain",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: Any, sentence: str | None, limits: Limits) -> None:
    status, said = refusal(document, limits)
    if sentence is None:  # more images than allowed
        assert (status, said) == (413, f"inputs[0].shape: more than {limits.max_instances} images")
    else:
        assert status == 400
        assert said.startswith(sentence)
        assert len(said) < 250


BYTES_1 = body(behind("BYTES", [1], 7))


@pytest.mark.parametrize(
    ("document", "tensor", "sentence"),
    [
        (BYTES_1, b"1234567890", f"{BINARY}is 7, but 10 bytes follow the JSON"),
        (BYTES_1, b"", f"{BINARY}is 7, but 0 bytes follow the JSON"),
        (body(behind("BYTES", [1], 0)), b"", "inputs[0].data[0]: is missing: the bytes end before it"),
        (body(behind("BYTES", [1], 3)), b"\1\0\0", "inputs[0].data[0]: is missing: the bytes end before it"),
        (body(behind("BYTES", [2], 7)), elements(b"ABC"), "inputs[0].data[1]: is missing: the bytes end before it"),
        (BYTES_1, b"\4\0\0\0ABC", "inputs[0].data[0]: should have 4 bytes, but 3 are left"),
        (BYTES_1, b"\xff\xff\xff\xffABC", "inputs[0].data[0]: should have 4294967295 bytes, but 3 are left"),
        (body(behind("BYTES", [1], 14)), elements(b"ABC", b"DEF"), "inputs[0].data: 7 bytes follow the last element"),
        (body(behind("UINT8", [1, 1, 1, 3], 2)), b"\0\0", "inputs[0].data: has 2 bytes, but the shape says 3"),
        (body(behind("UINT8", [1, 1, 1, 3], 4)), bytes(4), "inputs[0].data: has 4 bytes, but the shape says 3"),
        (body(IMAGES), b"ABC", f"{BINARY}is missing, but 3 bytes follow the JSON"),
        (
            body(behind("BYTES", [1], 7, data=["QUJD"])),
            elements(b"ABC"),
            "inputs[0]: has both data and binary_data_size",
        ),
        (
            {"inputs": [behind("BYTES", [1], 7)] * 2},
            elements(b"ABC") * 2,
            "inputs: expected one tensor with all images, ",
        ),
    ],
)
def test_bytes_that_do_not_fit_are_told(document: Any, tensor: bytes, sentence: str, limits: Limits) -> None:
    status, said = refusal_of_binary(document, tensor, limits)
    assert (status, said[: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize("length", ["", "-1", "x", "1.0", "+5", " 5", "²", "٣", "9" * 21, "9" * 20, "1000000"])
def test_a_length_of_the_head_that_is_none(length: str, limits: Limits) -> None:
    status, said = refusal(body(IMAGES), limits, inference_header_content_length=length)
    assert status == 400
    assert said.startswith("Inference-Header-Content-Length: expected a number of bytes, at most the ")


def test_a_head_of_another_length_is_no_json(limits: Limits) -> None:
    content, length = binary(BYTES_1, elements(b"ABC"))
    for wrong in (int(length) - 1, int(length) + 1, 0):
        status, said = refusal(content, limits, inference_header_content_length=str(wrong))
        assert status == 400
        assert said.startswith("body: ")


def test_one_protocol_at_the_path_of_the_other_is_told_by_its_name(limits: Limits) -> None:
    v1 = {"instances": [{"b64": "QUJD"}]}
    asked = "instances: this is a KServe v1 request: send it to /v1/models/alexnet:"
    assert refusal(v1, limits, "v2") == (400, f"{asked}predict")
    assert refusal(v1, limits, "v2", explain=True) == (400, f"{asked}explain")
    v2 = (400, "inputs: this is a KServe v2 request: send it to /v2/models/alexnet/infer")
    assert refusal(body(IMAGES), limits, "v1") == v2
    explained = (400, "inputs: this is a KServe v2 request: send it to /v2/models/alexnet/explain")
    assert refusal(body(IMAGES), limits, "v1", explain=True) == explained
    content, length = binary(BYTES_1, elements(JPEG))
    assert refusal(content, limits, "v1", inference_header_content_length=length) == v2
    sentence = "inputs: bytes follow the JSON, but no Inference-Header-Content-Length header says where they begin"
    for protocol in ("v2", None):
        assert refusal(content, limits, protocol) == (400, sentence)


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (b"", "body: not JSON (line 1, column "),
        (b",}", "body: not JSON (line 1, column "),
        (b', "id": ' + b"[" * 9000, "body: not readable JSON (nested too deeply)"),
        (b', "id": ' + b"9" * 9000, "body: not readable JSON (a number is too long)"),
    ],
)
def test_what_is_no_json_is_not_taken_for_json_with_bytes_behind_it(end: bytes, sentence: str, limits: Limits) -> None:
    content = json.dumps(body(images("QUJD"))).encode()[:-1] + end
    status, said = refusal(content, limits)
    assert (status, said[: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(JPEG + bytes(9), ""), (JPEG, "image/jpeg"), (b"--x", "multipart/form-data; boundary=x")],
)
def test_an_image_itself_goes_elsewhere(content: bytes, content_type: str, limits: Limits) -> None:
    for explain, action in ((False, "predict"), (True, "explain")):
        sentence = f"content-type: KServe v2 takes JSON; send an image or a form to /v1/models/alexnet:{action}"
        assert refusal(content, limits, "v2", explain, x_client_content_type=content_type) == (415, sentence)


def test_where_both_are_there_the_path_decides(limits: Limits) -> None:
    both = {**body(IMAGES), "instances": [{"b64": "QUJD"}]}
    assert parse(both, limits, "v2").v2 is not None
    assert parse(both, limits, "v1").v2 is None
    assert parse(both, limits, None).v2 is None


@pytest.mark.parametrize("content_type", ["", "application/json", "application/octet-stream", "text/plain"])
def test_the_content_type_does_not_matter(content_type: str, limits: Limits) -> None:
    assert parse(body(IMAGES), limits, "v2", x_client_content_type=content_type).instances == [Element("QUJD")]


def test_as_many_images_as_allowed_and_not_one_more(limits: Limits) -> None:
    most = limits.max_instances
    assert len(parse(body(images(*["QUJD"] * most)), limits).instances) == most
    refused = (413, f"inputs[0].shape: more than {most} images")
    assert refusal(body(images(*["QUJD"] * (most + 1))), limits) == refused
    assert refusal(body(images("QUJD", shape=[most + 1])), limits) == refused
    assert refusal_of_binary(body(behind("BYTES", [most + 1], 7)), elements(JPEG), limits) == refused
    assert refusal(body(pixels(most + 1, 1, 1, 3, data=[0] * 3 * (most + 1))), limits) == refused


def test_classes_are_bounded_as_in_v1(limits: Limits) -> None:
    many = body(images(*["QUJD"] * 64), parameters={"top_k": 1000})
    assert parse(many, replace(limits, classes=5)).top_k == 5
    sentence = "parameters.top_k: more than 10000 classes for all instances together"
    assert refusal(many, limits) == (413, sentence)
    assert refusal(body(images(*["QUJD"] * 64)), limits, x_client_top_k="1000") == (413, sentence.partition(".")[2])


def test_top_k_in_the_address(limits: Limits) -> None:
    assert parse(body(IMAGES), limits, x_client_top_k="3").top_k == 3
    twice = (400, "top_k: is given twice, in the URL and in parameters")
    assert refusal(body(IMAGES, parameters={"top_k": 3}), limits, x_client_top_k="3") == twice


@pytest.mark.parametrize(
    "added",
    [
        {"parameters": {"priority": 1, "timeout": 5, "sequence_id": 0, "sequence_start": False, "mine": "x"}},
        {"parameters": None, "outputs": None, "id": None},
        {"outputs": []},
        {"model_name": "alexnet", "meta": {"k": 3}},
    ],
)
def test_what_else_clients_add_is_theirs(added: dict[str, Any], limits: Limits) -> None:
    request = parse(body({**IMAGES, "parameters": {"content_type": "base64"}, "mine": 1}, **added), limits)
    assert request.top_k == 5
    assert request.v2 is not None
    assert request.v2.id is None
    assert request.v2.outputs == tuple((name, False) for name in NAMES)


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        ({"binary_data_output": True}, [], [("label", True), ("index", True), ("probability", True)]),
        ({"binary_data_output": False}, [], [("label", False), ("index", False), ("probability", False)]),
        ({}, [{"name": "index"}], [("index", False)]),
        (
            {"binary_data_output": True},
            [{"name": "probability", "parameters": {"binary_data": False}}, {"name": "label"}],
            [("probability", False), ("label", True)],
        ),
        ({}, [{"name": "label", "parameters": {"binary_data": True, "classification": 0}}], [("label", True)]),
    ],
)
def test_outputs_as_they_are_wanted(parameters: Any, outputs: Any, expected: Any, limits: Limits) -> None:
    request = parse(body(IMAGES, parameters=parameters, outputs=outputs), limits)
    assert request.v2 is not None
    assert list(request.v2.outputs) == expected


# --- Answers ----------------------------------------------------------------------------------------------------------

PREDICTIONS = [
    Prediction([ScoredClass(281, "n02123045", "tabby", 0.40971), ScoredClass(7, None, "猫", 1.4e-45)]),
    Prediction([ScoredClass(0, None, '"', 1.0), ScoredClass(999, None, "b", 1 / 3)]),
]
FLOATS = [float(np.float32(value)) for value in (0.40971, 1.4e-45, 1.0, 1 / 3)]
ANSWER = Answer(
    [
        Prediction(
            [replace(scored, probability=float(np.float32(scored.probability))) for scored in prediction.classes]
        )
        for prediction in PREDICTIONS
    ]
)


def encode(*outputs: tuple[str, bool], answer: Answer = ANSWER, **fields: Any) -> Response:
    asked = V2Answer(MODEL, VERSION, fields.pop("id", None), outputs, **fields)
    return protocols.encode(Request([], [], 2, v2=asked), answer)


def test_an_answer_in_json() -> None:
    response = encode(("label", False), ("index", False), ("probability", False), id="7\n")
    assert (response.content_type, response.headers) == ("application/json", {})
    assert json.loads(response.body) == {
        "model_name": MODEL,
        "model_version": VERSION,
        "id": "7\n",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2, 2], "data": ["tabby", "猫", '"', "b"]},
            {"name": "index", "datatype": "INT64", "shape": [2, 2], "data": [281, 7, 0, 999]},
            {"name": "probability", "datatype": "FP32", "shape": [2, 2], "data": [0.40971, 1.4013e-45, 1.0, 0.333333]},
        ],
    }


def test_an_answer_in_bytes() -> None:
    response = encode(("probability", True), ("label", True), ("index", True))
    assert response.content_type == "application/octet-stream"
    length = int(response.headers["Inference-Header-Content-Length"])
    sizes = [16, 4 * 4 + 5 + 3 + 1 + 1, 32]
    assert json.loads(response.body[:length]) == {
        "model_name": MODEL,
        "model_version": VERSION,
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [2, 2], "parameters": {"binary_data_size": size}}
            for name, datatype, size in zip(("probability", "label", "index"), ("FP32", "BYTES", "INT64"), sizes)
        ],
    }
    tensors = response.body[length:]
    assert tensors[:16] == struct.pack("<4f", *FLOATS)
    assert tensors[16 : 16 + sizes[1]] == elements(b"tabby", "猫".encode(), b'"', b"b")
    assert tensors[16 + sizes[1] :] == struct.pack("<4q", 281, 7, 0, 999)


def test_json_and_bytes_may_be_mixed() -> None:
    response = encode(("index", True), ("label", False))
    length = int(response.headers["Inference-Header-Content-Length"])
    first, second = json.loads(response.body[:length])["outputs"]
    assert first["parameters"] == {"binary_data_size": 32}
    assert second["data"][0] == "tabby"
    assert len(response.body) == length + 32


def test_an_explanation_in_tensors() -> None:
    outputs = [(name, False) for name in ("explained", "heat_map")]
    shown = [Explanation(PREDICTIONS[0].classes[0], "overlay", "image/jpeg", content) for content in (JPEG, b"more")]
    first, second = json.loads(encode(*outputs, answer=Answer(PREDICTIONS, shown)).body)["outputs"]
    assert first == {"name": "explained", "datatype": "INT64", "shape": [2], "data": [281, 281]}
    assert second == {"name": "heat_map", "datatype": "BYTES", "shape": [2], "data": ["/9j/", "bW9yZQ=="]}
    response = encode(("heat_map", True), answer=Answer(PREDICTIONS, shown))
    assert response.body.endswith(elements(JPEG, b"more"))
    grid = [Explanation(PREDICTIONS[0].classes[0], "grid", "application/json", [[0.0, 0.5, 1.0], [0.25, 0, 0]])] * 2
    (heat,) = json.loads(encode(outputs[1], answer=Answer(PREDICTIONS, grid)).body)["outputs"]
    values = [0.0, 0.5, 1.0, 0.25, 0, 0] * 2
    assert heat == {"name": "heat_map", "datatype": "FP32", "shape": [2, 2, 3], "data": values}


@pytest.mark.parametrize("name", ["class", "form"])
def test_what_is_to_be_explained_is_told_where_it_belongs(name: str, limits: Limits) -> None:
    sentence = f'{name}: belongs in parameters: "parameters": {{"class": 281, "form": "overlay"}}'
    output = {"name": "heat_map", "parameters": {name: 5}}
    for document in (body(IMAGES, **{name: 5}), body({**IMAGES, name: 5}), body(IMAGES, outputs=[output])):
        assert refusal(document, limits, explain=True) == (400, sentence)


def test_what_is_to_be_explained(limits: Limits) -> None:
    request = parse(body(IMAGES, parameters={"top_k": 2, "class": 281, "form": "grid"}), limits, explain=True)
    assert (request.top_k, request.verb, request.wish) == (2, Verb.EXPLAIN, Wish(281, "grid"))
    assert request.v2 is not None
    assert [name for name, _ in request.v2.outputs] == [*NAMES, "explained", "heat_map"]
    assert parse(body(IMAGES), limits, explain=True).wish == Wish(None, "overlay")
    with pytest.raises(RequestError, match=r"^parameters.class: expected an index from 0 to 999$"):
        parse(body(IMAGES, parameters={"class": 1000}), limits, explain=True)


# --- The JSON of gRPC -------------------------------------------------------------------------------------------------


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def message(contents: Any = None, raw: Any = None, **changed: Any) -> dict[str, Any]:
    """A ModelInferRequest as the door's transcoder writes it."""
    tensor = {"name": "images", "datatype": "BYTES", "shape": ["1"], **changed.pop("tensor", {})}
    tensor |= {"contents": contents} if contents else {}
    return {"model_name": MODEL, "inputs": [tensor], **({"raw_input_contents": raw} if raw else {}), **changed}


def test_raw_contents_of_grpc(limits: Limits) -> None:
    shape = {"shape": ["2"], "parameters": {"binary_data_size": {"int64_param": "1"}}}
    asked = message(raw=[text(elements(b"first", b"second"))], tensor=shape, id="7")
    request = parse({**asked, "parameters": {"top_k": {"int64_param": "3"}}}, limits, "grpc")
    assert request.instances == [Element(b"first"), Element(b"second")]
    assert request.places == ["raw_input_contents[0][0]", "raw_input_contents[0][1]"]
    assert request.top_k == 3
    assert request.v2 == V2Answer(MODEL, VERSION, "7", tuple((name, True) for name in NAMES), grpc=True)


@pytest.mark.parametrize("added", [{}, {"id": "", "model_version": "", "parameters": {}, "outputs": []}])
def test_contents_of_grpc(added: dict[str, Any], limits: Limits) -> None:
    asked = message({"bytes_contents": [text(b"first")]}, **added)
    request = parse(asked, limits, "grpc")
    assert request.instances == [Element(b"first")]
    assert request.places == ["inputs[0].contents.bytes_contents[0]"]
    assert request.v2 == V2Answer(MODEL, VERSION, None, tuple((name, False) for name in NAMES), grpc=True)


def test_pixels_of_grpc(limits: Limits) -> None:
    tensor = {"datatype": "UINT8", "shape": ["1", "1", "2", "3"]}
    for asked in (
        message({"uint_contents": [1, 2, 3, 4, 5, 6]}, tensor=tensor),
        message(raw=[text(bytes([1, 2, 3, 4, 5, 6]))], tensor=tensor),
    ):
        (shown,) = parse(asked, limits, "grpc").instances
        np.testing.assert_array_equal(shown, [[[1, 2, 3], [4, 5, 6]]])


@pytest.mark.parametrize("binary_data", [True, False])
def test_over_grpc_the_question_decides_how_it_is_answered(binary_data: bool, limits: Limits) -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": {"bool_param": binary_data}}}]
    for contents, raw in (({"bytes_contents": ["QUJD"]}, None), (None, [text(elements(b"ABC"))])):
        request = parse(message(contents, raw, outputs=outputs), limits, "grpc")
        assert request.v2 is not None
        assert request.v2.outputs == (("label", raw is not None),)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (message(), "inputs[0].contents.bytes_contents: is missing, and so is raw_input_contents"),
        (message({"uint_contents": [1]}), "inputs[0].contents.bytes_contents: is missing, "),
        (
            message({"fp32_contents": [1]}, tensor={"datatype": "FP32"}),
            "inputs[0].contents.bytes_contents: is missing, ",
        ),
        (message(raw=["QUJD", "QUJD"]), "raw_input_contents: expected one entry, for the one tensor"),
        (message(raw=["QUJD"], contents={"bytes_contents": ["QUJD"]}), "inputs[0].contents: given together with raw_"),
        (message(raw=["!"]), "raw_input_contents[0]: expected bytes, as base64"),
        (message(raw=[5]), "raw_input_contents[0]: expected bytes, as base64"),
        (message({"bytes_contents": ["QUJD", None]}), "inputs[0].contents.bytes_contents[1]: expected bytes, "),
        (message(raw=[text(b"\4\0\0\0ABC")]), "raw_input_contents[0][0]: should have 4 bytes, but 3 are left"),
        (message(raw=[text(elements(b"A"))], tensor={"shape": ["-1"]}), INTEGERS),
        (message(raw=[text(elements(b"A"))], tensor={"shape": ["x"]}), INTEGERS),
        (message(raw=[text(elements(b"A"))], tensor={"shape": [str(10**18)]}), INTEGERS),
        (message(raw=[text(elements(b"A"))], tensor={"datatype": "FP32"}), "inputs[0].datatype: expected BYTES "),
        ({"inputs": message()["inputs"] * 2, "raw_input_contents": ["", ""]}, "inputs: expected one tensor "),
        ({"raw_input_contents": ["QUJD"]}, EXPECTED),
        *(
            (message(raw=[text(elements(b"A"))], parameters={"top_k": wrong}), "parameters.top_k: expected an integer")
            for wrong in ({"string_param": "5"}, {"int64_param": "0"}, {"bool_param": True}, {}, {"int64_param": "x"})
        ),
        (message(raw=[text(elements(b"A"))], outputs=[{"name": "scores"}]), "outputs[0].name: no such output: "),
        (
            message(raw=[text(elements(b"A"))], parameters={"topk": {"int64_param": "5"}}),
            "parameters: the name must be top_k",
        ),
    ],
)
def test_what_is_wrong_over_grpc_is_told_with_its_place(asked: Any, sentence: str, limits: Limits) -> None:
    status, said = refusal(asked, limits, "grpc")
    assert (status, said[: len(sentence)]) == (400, sentence)


def test_an_answer_over_grpc_is_what_the_message_is_read_from() -> None:
    """Uses protobuf's own parser."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    pb2 = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2", reason="kserve needs Python below 3.14")
    outputs = [(name, False) for name in NAMES]
    plain = json_format.Parse(encode(*outputs, grpc=True, id="7").body, pb2.ModelInferResponse())
    assert (plain.model_name, plain.model_version, plain.id) == (MODEL, VERSION, "7")
    assert [output.name for output in plain.outputs] == list(NAMES)
    assert [list(output.shape) for output in plain.outputs] == [[2, 2]] * 3
    label, index, probability = plain.outputs
    assert list(label.contents.bytes_contents) == [b"tabby", "猫".encode(), b'"', b"b"]
    assert list(index.contents.int64_contents) == [281, 7, 0, 999]
    assert list(probability.contents.fp32_contents) == FLOATS
    outputs = [(name, True) for name in NAMES]
    raw = json_format.Parse(encode(*outputs, grpc=True).body, pb2.ModelInferResponse())
    assert [output.HasField("contents") for output in raw.outputs] == [False] * 3
    assert list(raw.raw_output_contents) == [
        elements(b"tabby", "猫".encode(), b'"', b"b"),
        struct.pack("<4q", 281, 7, 0, 999),
        struct.pack("<4f", *FLOATS),
    ]


@pytest.mark.parametrize("probability", [1.0, 0.5, 1 / 3, 1.23456789e-05, 1.1754944e-38, 1.4e-45])
@pytest.mark.parametrize("label", ["a", "a" * 250, "猫" * 250, "🐈" * 250, '"\\\n', "\0" * 9])
@pytest.mark.parametrize("wnid", [None, "n02123045"])
def test_it_is_known_how_long_an_answer_can_be(probability: float, label: str, wnid: str | None) -> None:
    """For every protocol."""
    classes = [(None, "b")] * 999 + [(wnid, label)]
    scored = ScoredClass(999, wnid, label, float(np.float32(probability)))
    bound = protocols.class_bytes(classes)
    ways: list[dict[str, Any]] = [{}, {"grpc": True}]
    for way in ways:
        for is_binary in (False, True):
            outputs = [(name, is_binary) for name in NAMES]
            few, many = (
                len(encode(*outputs, answer=Answer([Prediction([scored] * count)]), **way).body) for count in (100, 200)
            )
            assert (many - few - 12) / 100 <= bound  # 12: digits of the tensors' sizes
