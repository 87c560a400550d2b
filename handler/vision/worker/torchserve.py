"""The border to TorchServe, which has no types: what the handler uses of it, and what TorchServe wants back."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from vision.protocol.request import Verb

# What the front door tells the handler; a request that came another way has none of them.
CONTENT_TYPE = "x-client-content-type"
TOP_K = "x-client-top-k"  # as the address has it
PROTOCOL = "x-client-protocol"  # v1, v2 or grpc: what the client's path says
REQUEST_START = "x-request-start"
REQUEST_ID = "x-request-id"
TRACE = "traceparent"
KEY = "x-door-request"

# Of a body whose JSON has bytes behind it. TorchServe leaves a name as it comes: clients write it in several ways.
HEAD_LENGTH = "inference-header-content-length"

VERSION = "x-model-version"  # of an answer
SERVED = "SERVED_VERSION"  # the variable by which kserve/runtime/server tells it
SAFE_VERSION = re.compile(r"[\w.-]{1,128}", re.ASCII)
SAFE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# ff is no version, and zeros are no trace: https://www.w3.org/TR/trace-context/#traceparent-header
W3C_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Context(Protocol):
    """What the handler uses of TorchServe's `ts.context.Context`."""

    model_name: str
    model_yaml_config: Any
    manifest: Any

    @property
    def system_properties(self) -> Mapping[str, Any]: ...

    @property
    def request_processor(self) -> Sized: ...

    def get_request_header(self, idx: int, key: str) -> object: ...

    def get_all_request_header(self, idx: int) -> Mapping[str, object]: ...

    def set_response_status(self, code: int, phrase: str, idx: int) -> None: ...

    def set_response_header(self, idx: int, key: str, value: str) -> None: ...

    def set_response_content_type(self, idx: int, value: str) -> None: ...


@dataclass(frozen=True)
class Row:
    """One request of a batch. fields: its body under "body", or the parts of a form under their names."""

    fields: dict[str, object]
    context: Context
    index: int

    @property
    def verb(self) -> Verb:
        """TorchServe sets this header itself, by the path."""
        return Verb.EXPLAIN if self.context.get_request_header(self.index, "explain") == "True" else Verb.PREDICT

    @property
    def protocol(self) -> str | None:
        """v1, v2 or grpc, as the front door has read the path; None without it: TorchServe says nothing of the path."""
        told = self.context.get_request_header(self.index, PROTOCOL)
        return told if isinstance(told, str) else None

    @property
    def head_length(self) -> str | None:
        """How many bytes of the body are JSON, as the client writes it, where binary tensors follow; else None."""
        for name, value in self.context.get_all_request_header(self.index).items():
            if name.lower() == HEAD_LENGTH and isinstance(value, str):
                return value
        return None

    @property
    def v1_path(self) -> str:
        """Where the same is asked in KServe v1."""
        return f"/v1/models/{self.context.model_name}:{'explain' if self.verb is Verb.EXPLAIN else 'predict'}"

    @property
    def v2_path(self) -> str:
        """And in v2."""
        return f"/v2/models/{self.context.model_name}/{'explain' if self.verb is Verb.EXPLAIN else 'infer'}"

    @property
    def model(self) -> tuple[str, str]:
        """The name of the model that is asked, and the version that answers."""
        return self.context.model_name, version_served(self.context)

    @property
    def content_type(self) -> str:
        """What the client calls the body, with parameters; empty where it says nothing."""
        told = self.context.get_request_header(self.index, CONTENT_TYPE)
        if isinstance(told, str):
            return told
        part = self.context.get_request_header(self.index, "body")  # TorchServe's note, unless a header hides it
        return part.get("content-type") or "" if isinstance(part, dict) else ""

    @property
    def key(self) -> object:
        """By which the front door would write down that its client has left; None without it."""
        return self.context.get_request_header(self.index, KEY)

    @property
    def top_k(self) -> str | None:
        """What the address asks, as the front door has read it; TorchServe says nothing of it, but to /invocations."""
        told = self.context.get_request_header(self.index, TOP_K)
        return told if isinstance(told, str) else None


def each_row(rows: list[dict[str, object]], context: Context) -> list[Row]:
    """TorchServe's own rows → the requests of the batch."""
    return [Row(fields, context, index) for index, fields in enumerate(rows)]


class FinalBodies(list[bytes]):
    """Response bodies. They count as empty: the stock envelope wraps only what counts as true in {"predictions": …}.

    (The class stands here since TorchServe wants just one in the handler's own module.)
    """

    def __bool__(self) -> bool:
        return False


def is_enveloped(rows: Any, context: Context) -> bool:
    """TorchServe's own rows are a body, or the bytes of a form; JSON instances have no bytes, and none has a body.

    The envelope knows no batches: several rows for as many requests are those requests, whatever one of them holds.
    """
    if not isinstance(rows, list) or len(rows) != len(context.request_processor):
        return True
    if len(rows) > 1:
        return False
    return not all(isinstance(row, dict) and (not row or "body" in row or _has_bytes(row)) for row in rows)


def version_served(context: Context) -> str:
    """As the server tells it of itself; without that server, as the archive's manifest has it; or empty.

    What is published has its settings and its signature in its name too, of which the archive knows nothing.
    """
    model = context.manifest.get("model") if isinstance(context.manifest, dict) else None
    version = os.environ.get(SERVED) or (model.get("modelVersion") if isinstance(model, dict) else None)
    return version if isinstance(version, str) and SAFE_VERSION.fullmatch(version) else ""


def name_of_request(context: Context, index: int) -> str:
    """For the log: its id and its trace, where they look like that; nothing else that a client could say."""
    told, trace = context.get_request_header(index, REQUEST_ID), context.get_request_header(index, TRACE)
    name = f"request {told}" if isinstance(told, str) and SAFE_ID.fullmatch(told) else "a request"
    found = W3C_TRACE.fullmatch(trace) if isinstance(trace, str) else None
    return f"{name}, trace {found[1]}" if found else name


def quieten() -> None:
    """TorchServe logs a line for every batch through the root logger; its metrics, which are lines too, must stay."""
    logging.getLogger("ts").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)


def _has_bytes(row: dict[str, object]) -> bool:
    return any(isinstance(value, (bytes, bytearray)) for value in row.values())
