"""KServe v1: request body → Request, Answer → response body, errors → error body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vision.base64_bytes import b64encode
from vision.errors import MalformedBody, MalformedField, RequestError, TooLarge
from vision.protocol import top_k as classes
from vision.protocol import wish as wishes
from vision.protocol.answer import Answer, Explanation, Response, ScoredClass
from vision.protocol.forms import Form, parse_form
from vision.protocol.json_body import EXPECTED_OBJECT, NUMBERS, load_json, of_v2
from vision.protocol.kinds import Kind, kind_of
from vision.protocol.request import Request, Verb, Wish, bounded
from vision.protocol.top_k import TOP_K
from vision.worker.settings import Limits
from vision.worker.torchserve import Row

JSON = "application/json"
EXPECTED = f"expected JSON (Content-Type: {JSON}) or an image (Content-Type: image/*)"

LONGEST = 1.23456e-38  # no probability is longer in JSON


def parse(row: Row, limits: Limits) -> Request:
    """Raises RequestError: see `parse_row`."""
    return parse_row(row.fields, row.content_type, limits, row.top_k, row.verb)


def encode(_: Request, answer: Answer) -> Response:
    """An answer → compact JSON."""
    return Response(response_body(answer), JSON)


def parse_row(
    row: dict[str, object], content_type: str, limits: Limits, top_k: str | None = None, verb: Verb = Verb.PREDICT
) -> Request:
    """One TorchServe row → Request.

    row: the body under "body"; without the front door, TorchServe decodes forms and stores their parts by name, as it
        does with the query string of /invocations.
    content_type: as the client declares it, with parameters; may be empty.
    top_k: from the URL, as text.
    Raises RequestError (400, 413 for anything too large, 415 for a type that is not accepted).
    """
    top_k = classes.of_row(row, top_k)
    if "body" in row:
        return parse_body(row["body"], content_type, limits, top_k, verb)
    # `curl -F data=@photo.jpg`, which TorchServe's users also know.
    form = row.get("data")
    if isinstance(form, (bytes, bytearray)):
        return _bare_image(form, limits, top_k, verb)
    raise MalformedBody(EXPECTED)


def parse_body(
    body: object, content_type: str, limits: Limits, top_k: str | None = None, verb: Verb = Verb.PREDICT
) -> Request:
    """A body (bytes, or JSON that TorchServe has already parsed) → Request. See `parse_row`."""
    if not isinstance(body, (bytes, bytearray)):
        return _from_json(body, limits, top_k, verb)
    kind = kind_of(body, content_type)
    if kind is Kind.IMAGE:
        return _bare_image(body, limits, top_k, verb)
    if kind is Kind.FORM:
        return _from_form(parse_form(body, content_type, limits), limits, top_k, verb)
    return _from_json(load_json(body, advice_for_v2=of_v2()), limits, top_k, verb)


def instances_of_envelope(instances: object, limits: Limits) -> Request:
    """The bare `instances`, which TorchServe's stock KServe envelope passes on → Request. See `parse_row`."""
    return _from_json({"instances": instances}, limits, None, Verb.PREDICT)


def _bare_image(body: bytes | bytearray, limits: Limits, top_k: str | None, verb: Verb) -> Request:
    return _of_files([bytes(body)], ["body"], classes.of_text(top_k, limits), limits, verb)


def _of_files(files: list[bytes], places: list[str], top_k: int, limits: Limits, verb: Verb) -> Request:
    wish = Wish() if verb is Verb.EXPLAIN else None
    return bounded(Request(list(files), places, top_k, verb, wish), limits, TOP_K)


def _from_form(form: Form, limits: Limits, top_k: str | None, verb: Verb) -> Request:
    if form.json is None:
        if None not in (form.top_k, top_k):
            raise MalformedField(TOP_K, "is given twice, in the URL and in the form")
        asked = classes.of_text(top_k if form.top_k is None else form.top_k, limits)
        return _of_files(form.files, form.places, asked, limits, verb)
    if form.top_k is not None:
        raise MalformedField(TOP_K, "belongs in the JSON: parameters.top_k")
    return _from_json(load_json(form.json), limits, top_k, verb)


def _from_json(body: object, limits: Limits, asked: str | None, verb: Verb) -> Request:
    if not isinstance(body, dict):
        raise MalformedBody(EXPECTED_OBJECT)
    if "inputs" in body and "instances" not in body:
        raise MalformedField("inputs", of_v2())
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise MalformedField("instances", "expected a list of at least one instance")
    if len(instances) > limits.max_instances:  # before making a place for each
        if isinstance(instances[0], (int, float, list)):
            raise MalformedField("instances", NUMBERS)
        raise TooLarge("instances", limits.max_instances, "instances")
    places = [f"instances[{index}]" for index in range(len(instances))]
    classes.refuse_elsewhere(body, instances, places)
    parameters, wish = body.get("parameters"), None
    known: tuple[str, ...] = (TOP_K,)
    if verb is Verb.EXPLAIN:
        wishes.refuse_elsewhere(body)
        known = (TOP_K, *wishes.NAMES)
    top_k = classes.of_parameters(parameters, asked, limits, known)
    if verb is Verb.EXPLAIN:
        wish = wishes.of_parameters(parameters, limits)
    request = Request(instances, places, top_k, verb, wish)
    return bounded(request, limits, f"parameters.{TOP_K}" if asked is None else TOP_K)


def predictions(answer: Answer) -> list[dict[str, Any]]:
    """An answer → the JSON value of its `predictions`."""
    return [{"classes": [_class(found) for found in prediction.classes]} for prediction in answer.predictions]


def _class(found: ScoredClass) -> dict[str, Any]:
    """Omits `wnid` if there is none."""
    name = {"label": found.label} if found.wnid is None else {"wnid": found.wnid, "label": found.label}
    return {"index": found.index, **name, "probability": found.written_probability}


def class_bytes(classes: Sequence[tuple[str | None, str]]) -> int:
    """The most bytes of an answer that one class takes, with the comma after it.

    classes: (WordNet id, label) for each index, at least one.
    """
    wnid = next((wnid for wnid, _ in classes if wnid), None)
    label = max((label for _, label in classes), key=lambda label: len(json.dumps(label)))
    return len(_compact(_class(ScoredClass(len(classes), wnid, label, LONGEST)))) + 1


def response_body(answer: Answer) -> bytes:
    """An answer → compact JSON in UTF-8."""
    value: dict[str, Any] = {"predictions": predictions(answer)}
    if answer.explanations:
        value["explanations"] = [_explanation(explanation) for explanation in answer.explanations]
    return _compact(value)


def _explanation(explanation: Explanation) -> dict[str, Any]:
    content = explanation.content
    shown = {"b64": b64encode(content).decode()} if isinstance(content, bytes) else {"grid": content}
    return {
        "class": _class(explanation.explained),
        "form": explanation.form,
        "content_type": explanation.content_type,
        **shown,
    }


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def error_body(error: RequestError) -> bytes:
    """An error → `{"error": "place: what is wrong"}` as JSON."""
    return json.dumps({"error": str(error)}, ensure_ascii=False).encode()
