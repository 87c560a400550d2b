"""Batches through the handler, as a worker passes them: every request gets its own answer."""

from __future__ import annotations

import gc
import json
import logging
import re
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from ts.context import Context

from entry import Handler
from reliability.pictures import base64_text, encoded, gradient
from vision.image.source import EncodedImage
from vision.model import devices
from vision.worker import torchserve
from vision.worker.abandoned import Abandoned

JSON = "application/json"


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs]


def body(*images: bytes, **parameters: Any) -> bytes:
    return json.dumps(
        {"instances": [{"b64": base64_text(image)} for image in images], "parameters": parameters}
    ).encode()


def classes(answer: tuple[int, str, bytes]) -> list[list[dict[str, Any]]]:
    status, content_type, text = answer
    assert (status, content_type) == (200, JSON)
    return [prediction["classes"] for prediction in json.loads(text)["predictions"]]


def error(answer: tuple[int, str, bytes]) -> tuple[int, str]:
    status, content_type, text = answer
    assert content_type == JSON
    (sentence,) = json.loads(text).values()
    assert json.loads(text) == {"error": sentence}
    return status, sentence


def test_an_answer_has_the_documented_shape(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.predict((JSON, body(images[0])))
    ((first, *others),) = classes(answer)
    assert first.keys() == {"index", "wnid", "label", "probability"}
    assert (type(first["index"]), type(first["probability"])) == (int, float)
    assert len(others) == 4


def test_every_form_gives_the_same_answer(worker: Any, images: list[bytes]) -> None:
    text = base64_text(images[0])
    forms: list[Any] = [
        {"b64": text},
        {"data": text},
        {"image": {"b64": text}},
        {"image_bytes": {"b64": text}},
        {"b64": f"data:image/jpeg;base64,{text}"},
    ]
    requests = [(JSON, json.dumps({"instances": [form]}).encode()) for form in forms]
    requests += [("image/jpeg", images[0]), ("application/octet-stream", images[0]), ("", images[0])]
    answers = [classes(answer) for answer in worker.predict(*requests[:4]) + worker.predict(*requests[4:])]
    assert answers.count(answers[0]) == len(requests)


def test_one_batch_answers_each_request_as_if_it_were_alone(worker: Any, images: list[bytes]) -> None:
    requests = [(JSON, body(images[n], top_k=n + 1)) for n in range(4)] + [(JSON, body(*images, top_k=3))]
    together = worker.predict(*requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = worker.predict(request)
        for mixed, single in zip(classes(answer), classes(alone), strict=True):
            assert [entry["index"] for entry in mixed] == [entry["index"] for entry in single]
            for one, other in zip(mixed, single, strict=True):
                assert one["probability"] == pytest.approx(other["probability"], rel=1e-3)


def test_a_bad_request_is_refused_alone(worker: Any, images: list[bytes]) -> None:
    """Other answers in the batch do not change by a digit, whatever is next to them."""
    good = [(JSON, body(images[n])) for n in range(3)]
    bad = [
        (JSON, b"{"),
        (JSON, b'{"instances": [{"b64": "AAAA"}]}'),
        (JSON, body(images[0][:5000])),
        (JSON, body(images[0], images[1][:5000])),
        ("image/png", b"\x89PNG"),
        (JSON, body(images[0], top_k=0)),
        (JSON, json.dumps({"instances": [{"url": "https://example.org/"}]}).encode()),
        (JSON, json.dumps({"instances": [{"b64": ""}] * 65}).encode()),
    ]
    expected = worker.predict(*good)
    for refused in bad:
        first, wrong, second, third = worker.predict(good[0], refused, good[1], good[2])
        assert [first, second, third] == expected
        assert error(wrong)[0] in (400, 403, 413)


def test_a_batch_of_bad_requests_alone(worker: Any) -> None:
    answers = worker.predict((JSON, b"{"), ("image/png", b"x"), (JSON, b'{"instances": []}'))
    assert [error(answer)[0] for answer in answers] == [400, 400, 400]


def test_the_error_names_instance_and_field(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.predict((JSON, body(images[0], images[1], b"no picture")))
    assert error(answer) == (
        400,
        "instances[2].b64: not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)",
    )


def test_a_request_is_refused_whole(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.predict((JSON, body(images[0], b"no picture", images[1])))
    assert b"predictions" not in answer[2]


class Body(bytearray):
    """A body that can be checked for being alive."""


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("image/jpeg", b"\xff\xd8" + bytes(11 << 20)),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/png", encoded(gradient(4, 4), "PNG")[:-30]),
        (JSON, b'{"instances": [{"b64": "'),
        (JSON, b'{"instances": [{"b64": "!"}, {"b64": "AAAA"}]}'),
        (JSON, b'{"instances": [{"b64": ["'),
        (JSON, b'{"instances": [{"image_url": "https://example.invalid/a.jpg"}]}'),
        ("video/mp4", b"abc"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=" + b"a" * 2000),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n--c"),
        ("multipart/form-data", b"--b\r\n"),
    ],
)
def test_no_body_outlives_its_answer(worker: Any, content_type: str, content: bytes) -> None:
    """An error's traceback refers to frames, and these to bodies: 16 MiB that would stay until garbage collection."""
    sent = Body(content)
    there = weakref.ref(sent)
    gc.collect()
    gc.disable()
    try:
        assert worker.predict((content_type, sent))[0][0] != 200
        del sent
        assert there() is None
    finally:
        gc.enable()


def test_more_instances_than_the_network_takes_at_once(worker: Any) -> None:
    many = [encoded(gradient(300 + n, 300)) for n in range(40)]
    (answer,) = worker.predict((JSON, body(*many, top_k=1)))
    assert len(classes(answer)) == 40


@pytest.mark.slow
def test_the_pixels_of_a_request_add_up(worker: Any) -> None:
    image = encoded(gradient(7000, 7000), "PNG", compress_level=1)
    answers = worker.predict((JSON, body(*[image] * 5)), (JSON, body(image, top_k=1)))
    assert error(answers[0]) == (413, "instances: more than 100000000 pixels")
    assert len(classes(answers[1])[0]) == 1


def test_all_thousand_classes_add_up(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.predict((JSON, body(images[0], top_k=1000)))
    (all_classes,) = classes(answer)
    assert sorted(entry["index"] for entry in all_classes) == list(range(1000))
    assert sum(entry["probability"] for entry in all_classes) == pytest.approx(1, abs=1e-4)
    values = [entry["probability"] for entry in all_classes]
    assert values == sorted(values, reverse=True)


def test_rows_that_are_no_bodies(worker: Any, images: list[bytes]) -> None:
    form, empty = worker.raw([{"data": bytearray(images[0])}, {}], [{}, {}])
    assert len(classes(form)[0]) == 5
    assert error(empty)[0] == 400


@pytest.mark.parametrize("row", [{"x": "hello"}, {"x": {"a": 1}}, {"data": "hello"}, {"data": {"instances": []}}])
def test_a_row_of_any_form_takes_nobody_elses_answer(worker: Any, images: list[bytes], row: Any) -> None:
    """TorchServe makes such rows from the parts of a form when it decodes bodies itself."""
    good = {"body": bytearray(body(images[0]))}
    first, bad, last = worker.raw([good, row, good], [{}, {}, {}])
    assert len(classes(first)[0]) == len(classes(last)[0]) == 5
    assert error(bad)[0] == 400


@pytest.mark.parametrize(("side", "together"), [(4900, True), (5100, False)])
def test_images_are_decoded_together_where_memory_allows(
    worker: Any, monkeypatch: pytest.MonkeyPatch, side: int, together: bool
) -> None:
    """Two images of 24 megapixels, or of 26; the limit for one image is 50."""
    pooled = []
    pool = worker.handler._pool

    def noted(*given: Any) -> Any:
        pooled.append(given)
        return pool.map(*given)

    monkeypatch.setattr(worker.handler, "_pool", SimpleNamespace(map=noted))
    image = encoded(Image.new("L", (side, side)), "PNG", compress_level=1)
    decoded = worker.handler._decode(
        [EncodedImage(image, "instances[0]"), EncodedImage(image, "instances[1]")], threads=2
    )
    assert [pixels.shape for pixels in decoded] == [(224, 224, 3)] * 2
    assert bool(pooled) == together


def test_a_header_named_body_confuses_nobody(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.raw([{"body": bytearray(body(images[0]))}], [{"body": "a header of the client's"}])
    assert len(classes(answer)[0]) == 5


def test_a_defect_is_500_for_its_own_request_and_logged(
    worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from vision.image import decoder as image_decoder

    open_image = image_decoder.open_image

    def broken(image: bytes, *others: Any) -> Any:
        if image == images[1]:
            raise ZeroDivisionError("the defect")
        return open_image(image, *others)

    monkeypatch.setattr(image_decoder, "open_image", broken)
    with caplog.at_level(logging.ERROR):
        good, bad = worker.predict((JSON, body(images[0])), (JSON, body(images[1])))
    assert len(classes(good)[0]) == 5
    assert error(bad) == (500, "server: internal error, see the server's log")
    assert "ZeroDivisionError: the defect" in caplog.text


def test_a_defect_in_the_network_is_500_for_those_in_the_batch(
    worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.handler._classifier, "probabilities", lambda pixels: 1 / 0)
    good, bad = worker.predict((JSON, body(images[0])), (JSON, b"{"))
    assert (error(good)[0], error(bad)[0]) == (500, 400)


@pytest.mark.parametrize("verb", [{}, {"explain": "True"}])
def test_what_nobody_waits_for_is_not_computed(
    verb: dict[str, str], worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ABANDONED_REQUESTS", str(tmp_path / "abandoned"))
    monkeypatch.setattr(worker.handler, "_abandoned", Abandoned())
    (tmp_path / "abandoned").write_text("7-1700000000.123456-a\n")
    computed: list[int] = []
    probabilities = worker.handler._classifier.probabilities

    def counting(pixels: list[Any]) -> Any:
        computed.append(len(pixels))
        return probabilities(pixels)

    monkeypatch.setattr(worker.handler._classifier, "probabilities", counting)
    keys = ["7-1700000000.123456-a", "7-1700000000.123456-b", None]
    headers = [{**verb, **({"x-door-request": key} if key else {})} for key in keys]
    answers = worker.raw([{"body": bytearray(body(images[0]))}] * 3, headers)
    assert [status for status, _, _ in answers] == [503, 200, 200]
    assert computed == [2]


STAGES = re.compile(r"batch=(\d+) queue=(\d+\.\d) decode=\d+\.\d forward=\d+\.\d")  # as the front door reads it


def test_every_answer_tells_where_the_time_of_its_batch_went(
    worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"body": bytearray(body(images[0]))}, {"body": bytearray(b"{")}, {}]
    long_ago = {"x-request-start": f"t={time.time() - 3600:.6f}"}
    answers = worker.raw(rows, [long_ago, {}, {}])
    found = [STAGES.fullmatch(told) for told in worker.stages(3)]
    assert [answer[0] for answer in answers] == [200, 400, 400]
    assert [told and told[1] for told in found] == ["3", "3", "3"]
    assert [told and float(told[2]) > 3_599_000 for told in found] == [True, False, False]

    monkeypatch.setattr(worker.handler._classifier, "probabilities", lambda pixels: 1 / 0)
    (answer,) = worker.raw(rows[:1], [{}])
    assert answer[0] == 500
    assert STAGES.fullmatch(*worker.stages(1))


def test_a_defect_names_its_request_and_its_trace_in_the_log(
    worker: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker.handler._classifier, "probabilities", lambda pixels: 1 / 0)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret
    headers = [
        {"x-request-id": "5747e1f7-801c", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        {"x-request-id": "forged\nline", "traceparent": "forged"},
    ]
    with caplog.at_level(logging.ERROR):
        worker.raw([{"body": bytearray(body(images[0]))}] * 2, headers)
    assert f"defect answered to request 5747e1f7-801c, trace {trace}" in caplog.text
    assert "defect answered to a request\n" in caplog.text
    assert "forged" not in caplog.text


def test_every_answer_tells_which_archive_made_it(worker: Any, images: list[bytes], model_dir: Path) -> None:
    version = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text())["model"]["modelVersion"]
    worker.predict((JSON, body(images[0])), (JSON, b"{"))
    assert worker.told("x-model-version", 2) == [version, version]


def test_the_version_is_the_one_that_the_server_tells_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A published version also covers the settings and the signature."""
    context = Context("alexnet", "", {"model": {"modelVersion": "of-the-archive"}}, 1, None, "0.12.0")
    for told, version in (("ff9fd242ef75", "ff9fd242ef75"), ("", "of-the-archive"), ("forged\nline", "")):
        monkeypatch.setenv("SERVED_VERSION", told)
        assert torchserve.version_served(context) == version


@pytest.mark.parametrize(
    "manifest", [None, {}, {"model": None}, {"model": {"modelVersion": 1}}, {"model": {"modelVersion": "a b"}}]
)
def test_an_archive_without_a_version_tells_none(manifest: Any) -> None:
    context = Context("alexnet", "", manifest, 1, None, "0.12.0")
    assert torchserve.version_served(context) == ""


@pytest.mark.parametrize(
    ("asked", "answer"), [("3", 3), ("-", None), ("0", None), ("1001", None), ("99999999999", None), ("", None)]
)
def test_the_address_may_ask_for_classes_through_the_front_door_or_without(
    worker: Any, images: list[bytes], asked: str, answer: int | None
) -> None:
    rows = [{"body": bytearray(images[0])}, {"top_k": bytearray(asked.encode()), "body": bytearray(images[0])}]
    rows += [{"body": bytearray(images[0])}]
    through, without, other = worker.raw(rows, [{"x-client-top-k": asked}, {}, {}])
    assert len(classes(other)[0]) == 5
    for found in (through, without):
        if answer:
            assert len(classes(found)[0]) == answer
        else:
            assert error(found) == (400, "top_k: expected an integer from 1 to 1000")


def test_each_file_of_a_form_is_an_image_and_an_error_names_the_one_that_is_none(
    worker: Any, images: list[bytes]
) -> None:
    def form(*files: bytes) -> tuple[str, bytes]:
        part = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n%s\r\n'
        return "multipart/form-data; boundary=x", b"".join(part % content for content in files) + b"--x--\r\n"

    both, second, empty, alone = worker.predict(
        form(*images[:2]), form(images[0], b"no picture"), form(images[0], images[1], b""), form(b"")
    )
    (expected,) = worker.predict((JSON, body(*images[:2])))
    assert classes(both) == classes(expected)
    no_image = "not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"
    assert error(second) == (400, f"data[1]: {no_image}")
    assert error(empty) == (400, f"data[2]: {no_image}")
    assert error(alone) == (400, f"data: {no_image}")


def test_a_type_that_is_surely_something_else_is_415(worker: Any, images: list[bytes]) -> None:
    (answer,) = worker.predict(("video/mp4", images[0]))
    assert error(answer)[0] == 415


class TestStockEnvelope:
    """TorchServe's own KServe envelope around the handler."""

    def test_predictions_are_wrapped_by_the_envelope(self, worker: Any, images: list[bytes]) -> None:
        (plain,) = worker.predict((JSON, body(images[0], images[1])))
        for field in ("b64", "data"):  # TorchServe itself calls a body `data`
            status, answer = worker.enveloped([{field: base64_text(image)} for image in images[:2]])
            assert status == 200
            assert [prediction["classes"] for prediction in answer["predictions"]] == classes(plain)

    def test_a_prediction_is_not_called_an_explanation(self, worker: Any, images: list[bytes]) -> None:
        status, answer = worker.enveloped([{"b64": base64_text(images[0])}], explain=True)
        sentence = "body: explanations are not available under TorchServe's own envelope: use :predict"
        assert (status, json.loads(answer)) == (400, {"error": sentence})

    @pytest.mark.parametrize(
        "instances", [[], None, ["text"], [None], [{}], [{"b64": "AAAA"}], [{"body": 1}], {"b64": ""}]
    )
    def test_errors_keep_their_shape_and_status(self, worker: Any, instances: Any) -> None:
        status, answer = worker.enveloped(instances)
        assert status == 400
        assert json.loads(answer).keys() == {"error"}


@pytest.mark.parametrize(("flags", "precision", "warned"), [("avx2", "bfloat16", True), ("avx2", "auto", False)])
def test_bfloat16_where_it_is_slow_is_warned_of(
    flags: str,
    precision: str,
    warned: bool,
    model_dir: Path,
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    wished = {**config, "handler": {**config["handler"], "precision": precision}}
    with caplog.at_level(logging.WARNING):
        Handler().initialize(Context("alexnet", str(model_dir), {}, 1, None, "0.12.0", model_yaml_config=wished))
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    expected = "alexnet: handler.precision is bfloat16, but this processor cannot multiply it in hardware: that takes"
    assert [line.startswith(expected) for line in found] == [True] * warned


def test_the_load_is_one_log_line(model_dir: Path, config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    context = Context("alexnet", str(model_dir), {}, 1, None, "0.12.0", model_yaml_config=config)
    with caplog.at_level(logging.INFO):
        Handler().initialize(context)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "entry"]
    for part in ("alexnet: precision=", " device=", " threads=1 ", " max_batch=32 ", " weights=untrained ", " sha256="):
        assert part in line


def test_classes_that_are_not_the_networks_are_one_clear_sentence(
    model_dir: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    for file in model_dir.iterdir():
        (tmp_path / file.name).symlink_to(file)
    classes = json.loads((tmp_path / "classes.json").read_bytes())
    (tmp_path / "classes.json").unlink()
    (tmp_path / "classes.json").write_text(json.dumps(classes[:-1]))
    context = Context("alexnet", str(tmp_path), {}, 1, None, "0.12.0", model_yaml_config=config)
    with pytest.raises(ValueError, match=r"^classes.json has 999 classes, the network has 1000$"):
        Handler().initialize(context)
