"""The interface to TorchServe, which is untyped: what the handler uses of it, and what TorchServe expects back."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from vision.protocol.request import Verb

# Headers from the front door; requests that arrive another way have none of them.
CONTENT_TYPE = "x-client-content-type"
TOP_K = "x-client-top-k"  # from the URL
PROTOCOL = "x-client-protocol"  # v1, v2 or grpc, according to the client's path
REQUEST_START = "x-request-start"
REQUEST_ID = "x-request-id"
TRACE = "traceparent"
KEY = "x-door-request"

# Set if bytes follow the JSON in the body. TorchServe keeps the case of names, which varies between clients.
HEAD_LENGTH = "inference-header-content-length"

VERSION = "x-model-version"  # in an answer
SERVED = "SERVED_VERSION"  # the variable that kserve/runtime/server sets
SAFE_VERSION = re.compile(r"[\w.-]{1,128}", re.ASCII)
SAFE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# Neither a version of ff nor a trace of zeros is valid: https://www.w3.org/TR/trace-context/#traceparent-header
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
        """TorchServe itself sets this header according to the path."""
        return Verb.EXPLAIN if self.context.get_request_header(self.index, "explain") == "True" else Verb.PREDICT

    @property
    def protocol(self) -> str | None:
        """v1, v2 or grpc, read from the path by the front door; None without it: TorchServe hides the path."""
        told = self.context.get_request_header(self.index, PROTOCOL)
        return told if isinstance(told, str) else None

    @property
    def head_length(self) -> str | None:
        """How many bytes of the body are JSON, as the client states it, if binary tensors follow; else None."""
        for name, value in self.context.get_all_request_header(self.index).items():
            if name.lower() == HEAD_LENGTH and isinstance(value, str):
                return value
        return None

    @property
    def v1_path(self) -> str:
        """The path of the same call in KServe v1."""
        return f"/v1/models/{self.context.model_name}:{'explain' if self.verb is Verb.EXPLAIN else 'predict'}"

    @property
    def v2_path(self) -> str:
        """The path of the same call in KServe v2."""
        return f"/v2/models/{self.context.model_name}/{'explain' if self.verb is Verb.EXPLAIN else 'infer'}"

    @property
    def model(self) -> tuple[str, str]:
        """The model's name and version."""
        return self.context.model_name, version_served(self.context)

    @property
    def content_type(self) -> str:
        """The client's content type, with parameters; empty if there is none."""
        told = self.context.get_request_header(self.index, CONTENT_TYPE)
        if isinstance(told, str):
            return told
        part = self.context.get_request_header(
            self.index, "body"
        )  # set by TorchServe, unless a client's header hides it
        return part.get("content-type") or "" if isinstance(part, dict) else ""

    @property
    def key(self) -> object:
        """The key by which the front door would list the request as abandoned; None without it."""
        return self.context.get_request_header(self.index, KEY)

    @property
    def top_k(self) -> str | None:
        """top_k from the URL, as read by the front door. TorchServe itself passes it on only for /invocations."""
        told = self.context.get_request_header(self.index, TOP_K)
        return told if isinstance(told, str) else None


def each_row(rows: list[dict[str, object]], context: Context) -> list[Row]:
    """TorchServe's own rows → the requests of the batch."""
    return [Row(fields, context, index) for index, fields in enumerate(rows)]


class FinalBodies(list[bytes]):
    """Response bodies. The list is always falsy, because the stock envelope wraps truthy ones in {"predictions": …}.

    (The class is in this module because TorchServe wants exactly one class in the handler's.)
    """

    def __bool__(self) -> bool:
        return False


def is_enveloped(rows: Any, context: Context) -> bool:
    """Whether rows came through the stock envelope. TorchServe's own rows have a body or the bytes of a form; JSON
    instances have neither.

    The envelope does not batch: as many rows as requests, if several, are TorchServe's own, whatever they hold.
    """
    if not isinstance(rows, list) or len(rows) != len(context.request_processor):
        return True
    if len(rows) > 1:
        return False
    return not all(isinstance(row, dict) and (not row or "body" in row or _has_bytes(row)) for row in rows)


def version_served(context: Context) -> str:
    """The version that the server states; without that server, the one in the archive's manifest; or empty.

    A published version also covers the settings and the signature, which the archive does not know.
    """
    model = context.manifest.get("model") if isinstance(context.manifest, dict) else None
    version = os.environ.get(SERVED) or (model.get("modelVersion") if isinstance(model, dict) else None)
    return version if isinstance(version, str) and SAFE_VERSION.fullmatch(version) else ""


def name_of_request(context: Context, index: int) -> str:
    """For the log: the request's id and trace if they are well-formed; nothing else that a client could choose."""
    told, trace = context.get_request_header(index, REQUEST_ID), context.get_request_header(index, TRACE)
    name = f"request {told}" if isinstance(told, str) and SAFE_ID.fullmatch(told) else "a request"
    found = W3C_TRACE.fullmatch(trace) if isinstance(trace, str) else None
    return f"{name}, trace {found[1]}" if found else name


def quieten() -> None:
    """Drops TorchServe's line per batch, which uses the root logger. Its metrics are log lines too, and must stay."""
    logging.getLogger("ts").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)


def _has_bytes(row: dict[str, object]) -> bool:
    return any(isinstance(value, (bytes, bytearray)) for value in row.values())
