"""KServe v2 (the Open Inference Protocol): a request → Request, Answer → what goes back."""

from __future__ import annotations

from vision.errors import MalformedField
from vision.protocol.answer import Answer, Response
from vision.protocol.json_body import V2
from vision.protocol.request import Request
from vision.worker.settings import Limits
from vision.worker.torchserve import Row


def is_meant(row: Row) -> bool:
    return row.protocol in ("v2", "grpc")


def parse(_: Row, __: Limits) -> Request:
    """Raises RequestError."""
    raise MalformedField("inputs", V2)


def encode(_: Request, __: Answer) -> Response:
    raise NotImplementedError
