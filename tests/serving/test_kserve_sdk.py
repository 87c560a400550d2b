"""KServe's own Python client, as its users write it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.serving.torchserve import TorchServe
from reliability.pictures import base64_text

kserve = pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")


def test_inference_rest_client(server: TorchServe, photographs: list[Path]) -> None:
    async def ask() -> dict[str, Any]:
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v1", timeout=60))
        instances = [{"image": {"b64": base64_text(photograph.read_bytes())}} for photograph in photographs]
        try:
            return dict(await client.infer(server.url, {"instances": instances}, model_name="alexnet"))
        finally:
            await client.close()

    answer = asyncio.run(ask())
    assert [len(prediction["classes"]) for prediction in answer["predictions"]] == [5] * len(photographs)
