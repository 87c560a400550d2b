"""A KServe v2 request as received, before it is interpreted: the same for REST and gRPC."""

from __future__ import annotations

from dataclasses import dataclass

DATA = "inputs[0].data"  # how an error names the data of the tensor


@dataclass(frozen=True)
class Sent:
    """fields: the JSON. behind: the bytes after it. data_place: how an error names the tensor's data."""

    fields: dict[str, object]
    behind: memoryview | None = None
    data_place: str = DATA
    grpc: bool = False
