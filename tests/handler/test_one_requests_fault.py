"""Whatever goes wrong with one request, and wherever: the others in its batch still get their usual answers."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import entry
from entry import Handler
from reliability.pictures import base64_text
from tests.support.rows import binary, elements

HANDLER = str(Path(entry.__file__).parent)
Answer = tuple[int, str, bytes]

# Code that runs for the batch as a whole, and reads client text only if it matches a strict pattern.
FOR_ALL = {
    *("Handler.handle", "Handler._attempt", "Handler._predict", "Handler._encode"),
    *(
        "Abandoned.look",
        "Stages.__init__",
        "Stages.end",
        "Stages.header",
        "Stages.waited_s",
        "Processors.lend",
        "Processors._lock",
    ),
    *(
        "is_enveloped",
        "each_row",
        "in_time",
        "in_time_to_explain",
        "_at_most",
        "name_of_request",
        "error_body",
        "RequestError.__init__",
        "Defect.__init__",
    ),
}
STEPS = {"Handler._parse", "Handler._locate", "Handler._wait", "Handler._decode", "Handler._answer", "response_body"}


@pytest.fixture(scope="module")
def bodies(photographs: list[Path]) -> list[bytearray]:
    """Three requests: JSON, a form, and an image with its orientation and colours."""
    first, second, third = (photograph.read_bytes() for photograph in photographs[:3])
    document = {"instances": [{"b64": "data:image/jpeg;base64," + base64_text(first)}], "parameters": {"top_k": 2}}
    return [bytearray(json.dumps(document).encode()), bytearray(_form(second)), bytearray(third)]


TYPES = ["application/json", "multipart/form-data; boundary=x", "image/jpeg"]


def _form(image: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n%s\r\n--x--\r\n' % image


def answers(worker: Any, bodies: list[bytearray]) -> list[Answer]:
    found: list[Answer] = worker.predict(*zip(TYPES, bodies, strict=True))
    return found


def v2_answers(worker: Any, bodies: list[bytearray]) -> list[Answer]:
    """The third image in v2: as bytes, as pixels, and over gRPC."""
    image = bytes(bodies[2])
    parameters = {"binary_data_output": True}
    asked = [("BYTES", [1], elements(image)), ("UINT8", [1, 30, 40, 3], bytes(range(240)) * 15)]
    rows, headers = [], []
    for datatype, shape, content in asked:
        said = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(content)}}
        body, length = binary({"inputs": [said], "parameters": parameters}, content)
        rows.append({"body": bytearray(body)})
        headers.append({"x-client-protocol": "v2", "inference-header-content-length": length})
    message = {"inputs": [{"datatype": "BYTES", "shape": ["1"]}], "raw_input_contents": [base64_text(elements(image))]}
    rows.append({"body": bytearray(json.dumps(message).encode())})
    headers.append({"x-client-protocol": "grpc"})
    found: list[Answer] = worker.raw(rows, headers)
    return found


def test_an_answer_that_is_not_finite_is_its_own_requests_alone(
    worker: Any, bodies: list[bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(worker, bodies)
    probabilities = worker.handler._classifier.probabilities

    def poisoned(pixels: list[np.ndarray]) -> torch.Tensor:
        found: torch.Tensor = probabilities(pixels).clone()
        found[1] = float("nan")
        return found

    monkeypatch.setattr(worker.handler._classifier, "probabilities", poisoned)
    first, second, third = answers(worker, bodies)
    assert [first, third] == [expected[0], expected[2]]
    assert second[0] == 500


def test_where_a_batch_fails_each_request_is_tried_by_itself(
    worker: Any, bodies: list[bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(worker, bodies)
    probabilities, sizes, seen = worker.handler._classifier.probabilities, [], []

    def failing(pixels: list[np.ndarray]) -> torch.Tensor:
        sizes.append(len(pixels))
        seen.extend(pixels)
        if any(np.array_equal(image, seen[1]) for image in pixels):
            raise MemoryError
        found: torch.Tensor = probabilities(pixels)
        return found

    monkeypatch.setattr(worker.handler._classifier, "probabilities", failing)
    first, second, third = answers(worker, bodies)
    assert [first, third] == [expected[0], expected[2]]
    assert second[0] == 500
    assert sizes == [3, 1, 1, 1]


def test_who_asks_for_more_classes_than_there_are_gets_them_all(
    worker: Any, bodies: list[bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(worker, bodies)
    monkeypatch.setattr(worker.handler, "_limits", replace(worker.handler._limits, max_top_k=2000))
    document = json.loads(bodies[0])
    greedy = bytearray(json.dumps({**document, "parameters": {"top_k": 1500}}).encode())
    first, *others = answers(worker, [greedy, *bodies[1:]])
    assert first[0] == 200
    assert [len(prediction["classes"]) for prediction in json.loads(first[2])["predictions"]] == [1000]
    assert others == expected[1:]


class Injected(Exception):
    """An exception that none of our code expects."""


class Calls:
    """Counts calls of the handler's functions by name, and makes one of them fail."""

    def __init__(self, failing: tuple[str, int] | None = None) -> None:
        self.within: Counter[str] = Counter()  # steps of a single request
        self.outside: Counter[str] = Counter()
        self._failing = failing

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(HANDLER) or code.co_name.startswith("<"):
            return
        counter = self.within if _is_within_a_step(frame) else self.outside
        counter[code.co_qualname] += 1
        if counter is self.within and self._failing == (code.co_qualname, counter[code.co_qualname]):
            raise Injected

    @contextmanager
    def watched(self) -> Iterator[None]:
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


def _is_within_a_step(frame: FrameType) -> bool:
    caller = frame.f_back
    while caller is not None:
        if caller.f_code is Handler._attempt.__code__:
            return True
        caller = caller.f_back
    return False


def test_every_step_is_one_requests_own(worker: Any, bodies: list[bytearray]) -> None:
    """Only what is listed above runs outside `_attempt`."""
    calls = Calls()
    with calls.watched():
        answers(worker, bodies)
        answers(worker, [bytearray(b"{"), bytearray(b"x"), bytearray(b"y")])
    assert calls.outside.keys() <= FOR_ALL
    assert STEPS | {"Handler._cancel", "Classifier.probabilities"} <= calls.within.keys()


@pytest.mark.slow
@pytest.mark.parametrize("ask", [answers, v2_answers])
def test_whichever_call_fails_the_other_requests_have_their_answers(
    worker: Any, bodies: list[bytearray], ask: Callable[[Any, list[bytearray]], list[Answer]], subtests: pytest.Subtests
) -> None:
    """Fails at the first and at the last call of each function that runs for a request."""
    calls = Calls()
    expected = ask(worker, bodies)
    with calls.watched():
        assert ask(worker, bodies) == expected
    steps = STEPS if ask is answers else STEPS - {"response_body"}
    for name, count in sorted(calls.within.items()):
        for number in sorted({1, count}):
            with subtests.test(name, call=number):
                with Calls((name, number)).watched():
                    found = ask(worker, bodies)
                others = [mine for mine, before in zip(found, expected, strict=True) if mine != before]
                assert len(others) == 1 if name in steps else len(others) <= 1
                assert all(status >= 400 for status, _, _ in others)
                assert ask(worker, bodies) == expected
