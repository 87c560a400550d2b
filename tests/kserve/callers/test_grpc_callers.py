"""Who may call by gRPC: the same as with REST, with gRPC's statuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import has_envoy
from tests.kserve.callers.service import CREDENTIALS, PER_CLIENT, Service
from tests.support.waiting import PATIENCE_S, Eventually

grpc = pytest.importorskip("grpc", reason="grpcio comes with kserve, which needs Python below 3.14")
pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
stubs = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2_grpc")
pytestmark = pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks who may ask")


@pytest.fixture
def stub(running: Service) -> Iterator[Any]:
    with grpc.insecure_channel(running.url.removeprefix("http://"), options=[("grpc.enable_retries", 0)]) as channel:
        yield stubs.GRPCInferenceServiceStub(channel)


def refused(stub: Any, headers: dict[str, str]) -> tuple[str, str]:
    """The status of an empty call, which an allowed caller is told is invalid."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(pb.ModelInferRequest(), metadata=list(headers.items()), timeout=PATIENCE_S)
    return caught.value.code().name, caught.value.details()


def test_a_call_needs_a_known_key_and_a_good_token(running: Service, stub: Any, eventually: Eventually) -> None:
    good = running.both(running.new_key(eventually))
    assert refused(stub, good) == ("INVALID_ARGUMENT", "model: the name is missing")
    unknown = ("UNAUTHENTICATED", CREDENTIALS["error"])
    for left_out in good:
        assert refused(stub, {name: value for name, value in good.items() if name != left_out}) == unknown
    assert refused(stub, good | {"x-api-key": "forged"}) == unknown
    assert refused(stub, good | {"authorization": "Bearer forged"}) == unknown
    another = good | {"authorization": f"Bearer {running.issuer.token(aud='else')}"}
    assert refused(stub, another) == ("PERMISSION_DENIED", "credentials: not allowed here")


def test_what_the_server_says_about_itself_needs_neither(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name=MODEL_NAME)).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == MODEL_NAME
    assert stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL_NAME)).name == MODEL_NAME


def test_grpc_and_rest_share_one_limit(running: Service, stub: Any, eventually: Eventually) -> None:
    key = running.new_key(eventually)
    good = running.both(key)
    answers = [refused(stub, good) for _ in range(PER_CLIENT + 1)]
    assert answers[0][0] == "INVALID_ARGUMENT"
    said = "client: too many requests: try again after Retry-After seconds"
    assert answers[-1] == ("RESOURCE_EXHAUSTED", said)
    assert running.ask(key, running.issuer.token()).status_code == 429
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
