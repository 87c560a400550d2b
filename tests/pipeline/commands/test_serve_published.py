"""The whole path through the scripts: publish.sh prints a URI, serve.sh serves it, and predict.sh calls it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.serving.torchserve import has_envoy
from pipeline.store.embedded_storage import EmbeddedStorage
from tests.support.scripts import Script, Start

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.fixture
def bucket(user_environment: None) -> Iterator[str]:
    with EmbeddedStorage("published") as running:
        yield running.bucket


def test_what_was_published_is_served_and_answers(
    script: Script,
    start: Start,
    pets_archive: Path,
    bucket: str,
    photographs: list[Path],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    published = script("publish", f"gs://{bucket}/pets", "--archive", pets_archive, "--allow-untrained")
    assert published.returncode == 0, published.stderr
    uri = published.stdout.rstrip("\n")
    serving = start("serve", uri, "--port", port)
    assert serving.stdout is not None
    assert "/v1/models/pets:predict (Ctrl-C stops)" in serving.stdout.readline()
    answer = script("predict", photographs[0], "--url", f"http://127.0.0.1:{port}", "--json")
    told = httpx.get(f"http://127.0.0.1:{port}/v2/models/pets", trust_env=False).json() if has_envoy() else None
    by_the_handler = httpx.post(f"http://127.0.0.1:{port}/v1/models/pets:predict", content=b"{", trust_env=False)
    serving.send_signal(signal.SIGINT)
    _, said = serving.communicate(timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)["classes"]) == 5
    assert serving.returncode == 0, said
    assert "TorchServe is stopping …\n" in said
    (kept,) = (tmp_path / "cache" / "torchserve-alexnet").glob("[!.]*")
    assert uri == f"gs://{bucket}/pets/{kept.name}"
    assert [file.name for file in (kept / "model-store").iterdir()] == ["pets.mar"]
    assert by_the_handler.headers["x-model-version"] == kept.name
    if told is not None:  # only the front door has these pages
        assert told["versions"] == [kept.name]
