"""gRPC's messages, compiled by protoc from open_inference_grpc.proto (Apache 2.0, Open Inference Protocol).

They have their own pool, separate from anything else in this process that uses the package `inference`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_FILES = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("open_inference_grpc.binpb").read_bytes())
_POOL = descriptor_pool.DescriptorPool()
for _file in _FILES.file:
    _POOL.Add(_file)


def message(name: str) -> Any:
    """The class of a message, such as ModelInferRequest."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))
