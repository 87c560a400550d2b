"""What the published weights say of photographs, where they are in the cache (scripts/package.sh puts them there)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.archive import build_archive
from pipeline.ports import Ports
from pipeline.torchserve import TorchServe
from pipeline.weights import IMAGENET_SHA256, IMAGENET_URL, cache_directory, load_weights


@pytest.fixture(scope="module")
def trained(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    cached = cache_directory() / IMAGENET_URL.rsplit("/", 1)[1]
    if not cached.is_file():
        pytest.skip(f"the ImageNet weights are not in the cache ({cached}): scripts/package.sh downloads them")
    made = tmp_path_factory.mktemp("trained")
    (made / "config").mkdir()
    shutil.copy(checkout / "config.properties", made / "config")
    weights = load_weights("imagenet", lambda *_: None)
    build_archive(checkout / "handler", weights, made / "model-store" / "alexnet.mar")
    with TorchServe(made, Ports.any_free()) as running:
        yield running


def classes(server: TorchServe, photograph: Path) -> dict[str, float]:
    response = httpx.post(server.predict_url, content=photograph.read_bytes(), timeout=60, trust_env=False)
    return {entry["label"]: entry["probability"] for entry in response.json()["predictions"][0]["classes"]}


def test_grace_hopper_wears_a_military_uniform(trained: TorchServe, checkout: Path) -> None:
    found = classes(trained, checkout / "tests" / "photographs" / "grace_hopper.jpg")
    assert next(iter(found)) == "military uniform"


def test_chelsea_is_a_cat(trained: TorchServe, checkout: Path) -> None:
    found = classes(trained, checkout / "tests" / "photographs" / "chelsea.jpg")
    assert set(found) & {"tabby", "tiger cat", "Egyptian cat"}


def test_the_cached_file_is_the_published_one(trained: TorchServe) -> None:
    import hashlib

    cached = cache_directory() / IMAGENET_URL.rsplit("/", 1)[1]
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == IMAGENET_SHA256
