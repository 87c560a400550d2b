"""Which protocol a request speaks. Each is a module with `parse` and `encode`."""

from __future__ import annotations

from vision.protocol import v1, v2
from vision.protocol.answer import Answer, Response
from vision.protocol.request import Request
from vision.worker.settings import Limits
from vision.worker.torchserve import Row


def parse(row: Row, limits: Limits) -> Request:
    """One request of a batch → Request, whose protocol and verb it knows. Raises RequestError."""
    return v2.parse(row, limits) if v2.is_meant(row) else v1.parse(row, limits)


def encode(request: Request, answer: Answer) -> Response:
    """An answer → what goes back, in the protocol of its request."""
    return v1.encode(request, answer) if request.v2 is None else v2.encode(request, answer)
