"""The documents with the requirements, and their chapters."""

from __future__ import annotations

from dataclasses import dataclass

_OIP = "https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol"
_KSERVE = "https://kserve.github.io/website/docs/concepts/architecture/data-plane"
_RFC = "https://www.rfc-editor.org/rfc"


@dataclass(frozen=True)
class Source:
    title: str
    url: str


def _rest(title: str, anchor: str) -> Source:
    return Source(f"Open Inference Protocol (REST), {title}", f"{_OIP}/inference_rest.md#{anchor}")


def _grpc(title: str, anchor: str) -> Source:
    return Source(f"Open Inference Protocol (gRPC), {title}", f"{_OIP}/inference_grpc.md#{anchor}")


V1 = Source("KServe's V1 protocol", f"{_KSERVE}/v1-protocol")
TF_SERVING = Source(
    "TensorFlow Serving's REST API, on which V1 is based", "https://www.tensorflow.org/tfx/serving/api_rest"
)

HEALTH = _rest("API Definitions", "api-definitions")
HEALTH_BODIES = _rest("Payload Contents", "payload-contents")
SERVER_METADATA = _rest("Server Metadata", "server-metadata")
MODEL_METADATA = _rest("Model Metadata", "model-metadata")
REQUEST = _rest("Inference Request JSON Object", "inference-request-json-object")
RESPONSE = _rest("Inference Response JSON Object", "inference-response-json-object")
ERROR = _rest("Inference Response JSON Error Object", "inference-response-json-error-object")
TENSOR_DATA = _rest("Tensor Data", "tensor-data")
BINARY = Source("KServe's Binary Tensor Data Extension", f"{_KSERVE}/v2-protocol/binary-tensor-data-extension")

GRPC_HEALTH = _grpc("Health", "health")
GRPC_METADATA = _grpc("Metadata", "metadata")
GRPC_INFER = _grpc("Inference", "inference")
GRPC_TENSOR_DATA = _grpc("Tensor Data", "tensor-data")
GRPC_STATUS = Source("gRPC's status codes", "https://grpc.io/docs/guides/status-codes/")
GRPC_COMPRESSION = Source("gRPC's compression", "https://github.com/grpc/grpc/blob/master/doc/compression.md")

CLIENT_ERROR = Source("RFC 9110, 15.5: Client Error 4xx", f"{_RFC}/rfc9110#section-15.5")
NOT_FOUND = Source("RFC 9110, 15.5.5: 404 Not Found", f"{_RFC}/rfc9110#section-15.5.5")
METHOD_NOT_ALLOWED = Source("RFC 9110, 15.5.6: 405 Method Not Allowed", f"{_RFC}/rfc9110#section-15.5.6")
TOO_LARGE = Source("RFC 9110, 15.5.14: 413 Content Too Large", f"{_RFC}/rfc9110#section-15.5.14")
CODING = Source("RFC 9110, 8.4: Content-Encoding", f"{_RFC}/rfc9110#section-8.4")
FIELD_NAMES = Source("RFC 9110, 5.1: Field Names", f"{_RFC}/rfc9110#section-5.1")
PERSISTENCE = Source("RFC 9112, 9.3: Persistence", f"{_RFC}/rfc9112#section-9.3")
PIPELINING = Source("RFC 9112, 9.3.2: Pipelining", f"{_RFC}/rfc9112#section-9.3.2")
