"""KServe v1: request body → Request, Answer → response body, errors → error body."""

from __future__ import annotations

import json
from typing import Any

from vision.errors import MalformedBody, MalformedField, RequestError, TooLarge
from vision.protocol.answer import Answer
from vision.protocol.forms import TOP_K, Form, parse_form
from vision.protocol.kinds import Kind, kind_of
from vision.protocol.numbers import place_of_numbers
from vision.protocol.request import Request, bounded
from vision.worker.settings import Limits

JSON = "application/json"
EXPECTED = f"expected JSON (Content-Type: {JSON}) or an image (Content-Type: image/*)"
NOT_BASE64 = 'expected base64 text (a list of numbers, or Node\'s {"type": "Buffer"}, is none)'
MAX_VALUES = 10_000  # of lists and objects in a body; a body that is full of them takes seconds, and hundreds of MB


def parse_row(row: dict[str, object], content_type: str, limits: Limits) -> Request:
    """One TorchServe row → Request.

    row: the body under "body"; without the front door TorchServe decodes a form, and puts its parts under their names.
    content_type: what the client calls the body, with parameters; may be empty.
    Raises RequestError (400, 413 for too much of something, 415 for a type that is not taken).
    """
    if "body" in row:
        return parse_body(row["body"], content_type, limits)
    # `curl -F data=@photo.jpg`, the other form that TorchServe's users know.
    form = row.get("data")
    if isinstance(form, (bytes, bytearray)):
        return _bare_image(form, limits)
    raise MalformedBody(EXPECTED)


def parse_body(body: object, content_type: str, limits: Limits) -> Request:
    """A body (bytes, or JSON that TorchServe has parsed already) → Request. See `parse_row`."""
    if not isinstance(body, (bytes, bytearray)):
        return _from_json(body, limits)
    kind = kind_of(body, content_type)
    if kind is Kind.IMAGE:
        return _bare_image(body, limits)
    if kind is Kind.FORM:
        return _from_form(parse_form(body, content_type, limits), limits)
    return _from_json(_load_json(body), limits)


def instances_of_envelope(instances: object, limits: Limits) -> Request:
    """What TorchServe's stock KServe envelope hands over (the bare `instances`) → Request. See `parse_row`."""
    return _from_json({"instances": instances}, limits)


def _bare_image(body: bytes | bytearray, limits: Limits) -> Request:
    return bounded(Request(instances=[bytes(body)], places=["body"], top_k=limits.default_top_k), limits)


def _from_form(form: Form, limits: Limits) -> Request:
    if form.json is None:
        top_k = _top_k({} if form.top_k is None else {"top_k": _number(form.top_k)}, limits, TOP_K)
        return bounded(Request(instances=list(form.files), places=form.places, top_k=top_k), limits, TOP_K)
    if form.top_k is not None:
        raise MalformedField(TOP_K, "belongs in the JSON: parameters.top_k")
    return _from_json(_load_json(form.json), limits)


def _number(text: str) -> object:
    return int(text) if text.isdecimal() else text


def _load_json(body: bytes | bytearray) -> object:
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads does it
        if _has_more_values(text, MAX_VALUES):
            if place := place_of_numbers(text, MAX_VALUES):
                raise MalformedField(place, NOT_BASE64)
            raise TooLarge("body", MAX_VALUES, "values")
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = "empty" if not body.strip() else f"not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
    except UnicodeDecodeError:
        problem = "not JSON (not UTF-8); an image itself needs Content-Type: image/*"
    except RecursionError:
        problem = "not JSON that can be read (nested too deeply)"
    except ValueError:
        problem = "not JSON that can be read (a number is too long)"
    raise MalformedBody(problem)


def _has_more_values(text: str, most: int) -> bool:
    """By the signs with which they begin, which base64 has not. (str.count is ten times slower where there are few.)"""
    for sign in "[{,":
        at = text.find(sign)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(sign, at + 1)
    return False


def _from_json(body: object, limits: Limits) -> Request:
    if not isinstance(body, dict):
        raise MalformedBody('expected a JSON object {"instances": […]}')
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise MalformedField("instances", "expected a list of at least one instance")
    if len(instances) > limits.max_instances:  # before there are as many places
        raise TooLarge("instances", limits.max_instances, "instances")
    places = [f"instances[{index}]" for index in range(len(instances))]
    return bounded(Request(instances, places, _top_k(body.get("parameters"), limits)), limits)


def _top_k(parameters: object, limits: Limits, place: str = "parameters.top_k") -> int:
    if parameters is None:
        return limits.default_top_k
    if not isinstance(parameters, dict):
        raise MalformedField("parameters", "expected an object")
    top_k = parameters.get("top_k", limits.default_top_k)
    if type(top_k) is not int or not 1 <= top_k <= limits.max_top_k:  # bool is an int too
        raise MalformedField(place, f"expected an integer from 1 to {limits.max_top_k}")
    return top_k


def predictions(answer: Answer) -> list[dict[str, Any]]:
    """An answer → the JSON value of its `predictions`. Probabilities have six significant digits."""
    return [
        {
            "classes": [
                {
                    "index": found.index,
                    "wnid": found.wnid,
                    "label": found.label,
                    "probability": float(f"{found.probability:.6g}"),
                }
                for found in prediction.classes
            ]
        }
        for prediction in answer.predictions
    ]


def response_body(answer: Answer) -> bytes:
    """An answer → compact JSON in UTF-8."""
    return json.dumps({"predictions": predictions(answer)}, separators=(",", ":")).encode()


def error_body(error: RequestError) -> bytes:
    """An error → `{"error": "place: what is wrong"}` as JSON."""
    return json.dumps({"error": str(error)}, ensure_ascii=False).encode()
