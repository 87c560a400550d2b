"""A KServe v2 request as it came, before anybody looks into it: the same for REST and for gRPC."""

from __future__ import annotations

from dataclasses import dataclass

DATA = "inputs[0].data"  # how an error names the data of the tensor


@dataclass(frozen=True)
class Sent:
    """fields: of the JSON. behind: the bytes that follow it. data_place: how an error names the tensor's data."""

    fields: dict[str, object]
    behind: memoryview | None = None
    data_place: str = DATA
    grpc: bool = False
