"""Calls of the Open Inference Protocol (V2) over gRPC: how to ask a model, and how to read an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from conformance.checking import NoServer, must, not_applicable
from conformance.messages import METHODS, SERVICE, message
from conformance.questions import Given, for_v2
from conformance.rest import NO_QUESTION, NO_SECOND
from conformance.tensors import Question, Tensor, Text, from_raw, stacked

# The field of InferTensorContents for each datatype; FP16 has none.
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class Said:
    """A status, and the message if it is OK."""

    code: grpc.StatusCode
    details: str
    message: Any

    @property
    def is_ok(self) -> bool:
        return bool(self.code is grpc.StatusCode.OK)

    @property
    def contents(self) -> tuple[object, object]:
        """An answer's content, well formed or not."""
        return list(self.message.outputs), list(self.message.raw_output_contents)

    def __str__(self) -> str:
        return f"{self.code.name} {self.details[:160]}".rstrip()


@dataclass
class GrpcCase:
    """A server's model. See RestCase. metadata: in the REST protocol's terms."""

    target: str
    is_tls: bool
    model: str
    timeout_s: float
    headers: dict[str, str]
    too_large: int
    questions: list[Question] = field(default_factory=list)
    tried: list[Said] = field(default_factory=list)
    was_awaited: bool = False
    too_early: object = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.is_tls:
            self._channel = grpc.secure_channel(self.target, grpc.ssl_channel_credentials(), UNLIMITED)
        else:
            self._channel = grpc.insecure_channel(self.target, UNLIMITED)

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: Any = None, compression: grpc.Compression | None = None) -> Said:
        """request: a message; by default an empty one of the method's type."""
        known = method if method in METHODS else METHODS[0]
        ask = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message(f"{known}Response").FromString,
        )
        sent = message(f"{known}Request")() if request is None else request
        metadata = [(name.lower(), value) for name, value in self.headers.items()]
        try:
            answer = ask(sent, timeout=self.timeout_s, metadata=metadata, compression=compression)
        except grpc.RpcError as error:
            return Said(error.code(), error.details() or "", None)
        return Said(grpc.StatusCode.OK, "", answer)

    def infer(self, *questions: Question, **more: Any) -> Said:
        return self.call("ModelInfer", self.request(*questions, **more))

    def request(self, *questions: Question, raw: bool = True, **more: Any) -> Any:
        """A ModelInferRequest. raw: with raw_input_contents rather than typed contents."""
        tensors = stacked(questions)
        request = message("ModelInferRequest")(**{"model_name": self.model, **more})
        for tensor in tensors:
            entry = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if raw:
                request.raw_input_contents.append(tensor.to_raw())
            else:
                values = [value.raw if isinstance(value, Text) else value for value in tensor.values]
                getattr(entry.contents, CONTENTS[tensor.datatype]).extend(values)
        return request

    def answer(self, *questions: Question, raw: bool = True) -> list[Any]:
        """Raises Failed if they are not answered."""
        return rows(self.infer(*questions, raw=raw))

    def look(self, given: Sequence[Given]) -> None:
        """Looks for requests that it answers, made from `given`. Raises BadInput or NoServer."""
        self.metadata = described_model(self)
        self.find_questions(for_v2(given, self.metadata))

    def find_questions(self, candidates: Iterable[list[Question]]) -> None:
        """As in RestCase."""
        self.tried = []
        for candidate in candidates:
            first = self.infer(candidate[0])
            self.tried.append(first)
            if not first.is_ok:
                continue
            self.questions = candidate[:1]
            for other in candidate[1:]:
                said = self.infer(other)
                if said.is_ok and said.contents != first.contents:
                    self.questions.append(other)
                    break
            return

    def is_ready(self) -> bool:
        said = self.call("ModelReady", message("ModelReadyRequest")(name=self.model))
        return said.is_ok and bool(said.message.ready)

    @property
    def question(self) -> Question:
        if not self.questions:
            not_applicable(NO_QUESTION)
        return self.questions[0]

    @property
    def two(self) -> tuple[Question, Question]:
        first = self.question
        if len(self.questions) < 2:
            not_applicable(NO_SECOND)
        return first, self.questions[1]

    def wrong_request(self) -> Any:
        """A request whose raw contents are one byte too short for any shape and datatype."""
        request = self.request(self.question)
        request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
        return request


def described_model(case: GrpcCase) -> dict[str, Any]:
    """ModelMetadata in the REST protocol's terms, {} if there is none. Raises NoServer."""
    said = case.call("ModelMetadata", message("ModelMetadataRequest")(name=case.model))
    if said.code is grpc.StatusCode.UNAVAILABLE:
        raise NoServer(f"{case.target}: {said.details}")
    if not said.is_ok:
        return {}
    return {
        side: [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            for tensor in getattr(said.message, side)
        ]
        for side in ("inputs", "outputs")
    }


def outputs(said: Said) -> list[Tensor]:
    """The outputs of a ModelInferResponse. Raises Failed if it violates the protocol."""
    must(said.is_ok, "OK for a good question", said)
    answer = said.message
    raws = list(answer.raw_output_contents)
    must(bool(answer.outputs), "outputs", "none")
    must(not raws or len(raws) == len(answer.outputs), "raw contents for each output", f"{len(raws)}")
    found = []
    for at, output in enumerate(answer.outputs):
        head = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if raws:
            must(not output.contents.ByteSize(), "no contents next to raw contents", f"both for {output.name!r}")
            found.append(from_raw(head, raws[at]))
            continue
        must(output.datatype in CONTENTS, "a datatype that has contents", output.datatype)
        values = tuple(map(_text, getattr(output.contents, CONTENTS[output.datatype])))
        tensor = replace(Tensor(output.name, output.datatype, tuple(output.shape), ()), values=values)
        elements = 1
        for size in tensor.shape:
            elements *= size
        must(len(values) == elements, f"as many elements as the shape {list(tensor.shape)} says", len(values))
        found.append(tensor)
    return found


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def rows(said: Said) -> list[Any]:
    """As in V2Case."""
    tensors = outputs(said)
    parts = {tensor.name: tensor.rows() for tensor in tensors}
    counts = {len(part) for part in parts.values()}
    if len(counts) != 1:
        return [{tensor.name: list(tensor.values) for tensor in tensors}]
    return [{name: part[at] for name, part in parts.items()} for at in range(counts.pop())]
