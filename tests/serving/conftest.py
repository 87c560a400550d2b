"""v1's answers, for tests that ask the same in v2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.artefact.model import MODEL_NAME
from reliability.pictures import base64_text

PATIENCE_S = 60
OUTPUTS = ("label", "index", "probability")


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[bytes]:
    return [photograph.read_bytes() for photograph in photographs[:2]]


@pytest.fixture(scope="module")
def expected(door_url: str, images: list[bytes]) -> dict[str, list[list[Any]]]:
    """v1's answer to each image on its own."""
    body = {"instances": [{"b64": base64_text(image)} for image in images]}
    url = f"{door_url}/v1/models/{MODEL_NAME}:predict"
    predictions = httpx.post(url, json=body, timeout=PATIENCE_S, trust_env=False).json()["predictions"]
    return {name: [[found[name] for found in one["classes"]] for one in predictions] for name in OUTPUTS}
