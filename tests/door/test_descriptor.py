"""kserve/runtime/inference.pb, which Envoy reads, matches inference.proto, and that matches KServe's own protocol.

python -m tests.door.test_descriptor        regenerates it
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc_tools", reason="grpcio-tools comes with kserve, which needs Python below 3.14")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")

RUNTIME = Path(__file__).resolve().parents[2] / "kserve" / "runtime"
DESCRIPTOR = RUNTIME / "inference.pb"
LEFT_OUT = "Repository"


def made() -> bytes:
    """One file: Envoy already knows google.api.http, and what protoc would add depends on its version."""
    google = importlib.util.find_spec("google.api")
    assert google
    assert google.submodule_search_locations
    (folder,) = google.submodule_search_locations
    with tempfile.TemporaryDirectory() as name:
        output = Path(name, "set")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{RUNTIME}", f"-I{Path(folder).parents[1]}"]
        subprocess.run([*command, f"--descriptor_set_out={output}", "inference.proto"], check=True)
        read = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    (file,) = read.file
    del file.dependency[:]
    return bytes(read.SerializeToString(deterministic=True))


def test_the_descriptor_is_that_of_the_proto() -> None:
    assert DESCRIPTOR.read_bytes() == made()


def test_the_proto_is_kserves() -> None:
    kserve = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
    (ours,) = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR.read_bytes()).file
    theirs = descriptor_pb2.FileDescriptorProto.FromString(kserve.DESCRIPTOR.serialized_pb)
    assert ours.package == theirs.package
    for message in ours.message_type:
        forget_json_names(message)
        if message.name == "InferParameter":
            assert [field.name for field in message.field[3:]] == ["double_param", "uint64_param"]
            del message.field[3:]
    assert messages(ours) == messages(theirs)
    (service,), (of_kserve,) = ours.service, theirs.service
    assert service.name == of_kserve.name
    assert [(method.name, method.input_type, method.output_type) for method in service.method] == [
        (method.name, method.input_type, method.output_type)
        for method in of_kserve.method
        if not method.name.startswith(LEFT_OUT)
    ]


def forget_json_names(message: Any) -> None:
    """protoc records them; KServe's own file has none."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        forget_json_names(nested)


def messages(file: Any) -> list[Any]:
    return [message for message in file.message_type if not message.name.startswith(LEFT_OUT)]


if __name__ == "__main__":
    DESCRIPTOR.write_bytes(made())
