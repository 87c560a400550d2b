"""A typical gRPC program with tritonclient, printing its results as JSON: python triton_grpc.py HOST:PORT NAME IMAGE…

A program of its own: tritonclient's messages have the names of those of KServe's SDK, and a process takes either.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

target, name, *files = sys.argv[1:]
client = triton.InferenceServerClient(target)


def of_bytes(*contents: bytes) -> Any:
    made = triton.InferInput("images", [len(contents)], "BYTES")
    return made.set_data_from_numpy(np.array([*contents, None], dtype=object)[:-1])


def answered(found: Any) -> dict[str, Any]:
    outputs = {output: found.as_numpy(output).tolist() for output in ("label", "index", "probability")}
    outputs["label"] = [[label.decode() for label in row] for row in outputs["label"]]
    return {**outputs, "id": found.get_response().id, "model_name": found.get_response().model_name}


def refused(*inputs: Any, model: str = name, **more: Any) -> tuple[str, str]:
    try:
        client.infer(model, [*inputs], **more)
    except triton.InferenceServerException as error:
        return error.status(), error.message()
    return "OK", ""


images = [Path(file).read_bytes() for file in files]
told = client.get_server_metadata()
described = client.get_model_metadata(name, told.version)
pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
shown = triton.InferInput("images", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
wanted = [triton.InferRequestedOutput(output.name) for output in described.outputs]
said = {
    "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(name, told.version)],
    "server": [told.name, list(told.extensions)],
    "inputs": [[tensor.name, tensor.datatype, list(tensor.shape)] for tensor in described.inputs],
    "outputs": [tensor.name for tensor in described.outputs],
    "plain": answered(client.infer(name, [of_bytes(*images)], request_id="7")),
    "chosen": answered(client.infer(name, [of_bytes(*images)], outputs=wanted, request_id="7", client_timeout=60)),
    "pixels": list(client.infer(name, [shown], parameters={"top_k": 3}).as_numpy("label").shape),
    "no image": refused(of_bytes(b"forged")),
    "no model": refused(of_bytes(*images), model="forged"),
    "no number": refused(of_bytes(*images), parameters={"top_k": "forged"}),
    "no whole number": refused(of_bytes(*images), parameters={"top_k": 1.5}),
}
print(json.dumps(said))
