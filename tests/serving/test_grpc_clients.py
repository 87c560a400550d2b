"""KServe's gRPC from common clients, as their users write it: tritonclient and KServe's SDK."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artefact.model import MODEL_NAME

kserve = pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")
pytest.importorskip("tritonclient", reason="it is only installed for Python below 3.14")
pytestmark = pytest.mark.slow

PATIENCE_S = 60
OUTPUTS = ("label", "index", "probability")


@pytest.fixture(scope="module")
def target(door_url: str) -> str:
    return door_url.removeprefix("http://")


def check(found: Any, expected: dict[str, list[list[Any]]]) -> None:
    """found: either client's as_numpy."""
    labels = np.array(found("label"), object).tolist()
    assert [[label.decode() if isinstance(label, bytes) else label for label in row] for row in labels] == (
        expected["label"]
    )
    assert np.array(found("index")).tolist() == expected["index"]
    np.testing.assert_allclose(found("probability"), np.array(expected["probability"], np.float32), rtol=1e-5)


def test_triton(target: str, photographs: list[Path], expected: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "tests.support.triton_grpc", target, MODEL_NAME, *map(str, photographs[:2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["ready"] == [True, True, True]
    assert said["server"][0] == MODEL_NAME
    assert said["inputs"] == [["images", "BYTES", [-1]]]
    assert said["outputs"] == list(OUTPUTS)
    for answer in (said["plain"], said["chosen"]):
        check(answer.__getitem__, expected)
        assert (answer["id"], answer["model_name"]) == ("7", MODEL_NAME)
    assert said["pixels"] == [2, 3]
    codes = {name: said[name][0].removeprefix("StatusCode.") for name in said if name.startswith("no ")}
    wrong = dict.fromkeys(("no image", "no number", "no whole number"), "INVALID_ARGUMENT")
    assert codes == wrong | {"no model": "NOT_FOUND"}
    assert said["no image"][1].startswith("raw_input_contents[0][0]: not an image (")
    for name in ("no number", "no whole number"):
        assert said[name][1].startswith("parameters.top_k: expected an integer from 1 to "), said[name]


async def asked(target: str, *requests: Any) -> list[Any]:
    async with kserve.InferenceGRPCClient(target, timeout=PATIENCE_S, retries=0) as client:
        ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(MODEL_NAME)]
        return [*ready, *(await asyncio.gather(*(client.infer(request) for request in requests)))]


@pytest.mark.parametrize("raw", [True, False])
def test_kserves_sdk(target: str, images: list[bytes], expected: dict[str, Any], raw: bool) -> None:
    tensor = kserve.InferInput("images", [len(images)], "BYTES", data=None if raw else images)
    if raw:
        tensor.set_data_from_numpy(np.array([*images, None], dtype=object)[:-1], binary_data=True)
    request = kserve.InferRequest(MODEL_NAME, [tensor], request_id="7", parameters={"top_k": 5})
    *ready, answer, other = asyncio.run(asked(target, request, request))
    assert ready == [True, True, True]
    for one in (answer, other):
        assert (one.id, one.model_name) == ("7", MODEL_NAME)
        check(lambda name, one=one: one.get_output_by_name(name).as_numpy(), expected)
