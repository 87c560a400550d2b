"""Finds the protocol of a request. Each protocol is a module with `parse` and `encode`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vision.errors import MalformedField
from vision.protocol import v1, v2
from vision.protocol.answer import Answer, Response
from vision.protocol.json_body import load_json, of_v2
from vision.protocol.kinds import Kind, kind_of
from vision.protocol.request import Request
from vision.worker.settings import Limits
from vision.worker.torchserve import Row


def parse(row: Row, limits: Limits) -> Request:
    """One request of a batch → Request, with its protocol and verb. Raises RequestError.

    Without the front door the path is unknown, and the protocol follows from the body.
    """
    if row.protocol in ("v2", "grpc") or (row.protocol is None and row.head_length is not None):
        return v2.parse(row, limits)
    body = row.fields.get("body")
    if isinstance(body, (bytes, bytearray)) and kind_of(body, row.content_type) is Kind.JSON:
        body = load_json(body, advice_for_v2=of_v2(row.v2_path) if row.protocol == "v1" else v2.NO_LENGTH)
        row = replace(row, fields={**row.fields, "body": body})
    if isinstance(body, dict) and "inputs" in body and "instances" not in body:
        if row.protocol == "v1":
            raise MalformedField("inputs", of_v2(row.v2_path))
        return v2.parse(row, limits)
    return v1.parse(row, limits)


def encode(request: Request, answer: Answer) -> Response:
    """An answer → a response in the protocol of its request."""
    return v1.encode(request, answer) if request.v2 is None else v2.encode(request, answer)


def class_bytes(classes: Sequence[tuple[str | None, str]]) -> int:
    """The most bytes of an answer that one class takes in any protocol.

    classes: (WordNet id, label) for each index, at least one.
    """
    return max(v1.class_bytes(classes), v2.class_bytes(classes))
