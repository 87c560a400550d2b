"""A gRPC service on loopback, with a ModelInfer written by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from conformance.messages import SERVICE, message

Infer = Callable[[Any, grpc.ServicerContext], Any]


class GrpcService:
    """infer: ModelInferRequest, context → ModelInferResponse. asked: the requests. headers: those of the last call."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.infer: Infer = lambda _, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "not written")
        self.asked: list[Any] = []
        self.headers: dict[str, str] = {}

    def __call__(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        self.headers = dict(context.invocation_metadata())
        return self.infer(request, context)

    def refuse(self, code: grpc.StatusCode, sentence: str) -> None:
        self.infer = lambda _, context: context.abort(code, sentence)


@contextmanager
def running_grpc_service(credentials: grpc.ServerCredentials | None = None) -> Iterator[GrpcService]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    if credentials:
        service = GrpcService(f"https://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}")
    else:
        service = GrpcService(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    handler = grpc.unary_unary_rpc_method_handler(
        service,
        request_deserializer=message("ModelInferRequest").FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()


@pytest.fixture
def grpc_service(user_environment: None) -> Iterator[GrpcService]:
    with running_grpc_service() as service:
        yield service
