"""predict.sh over gRPC, through the front door: the same predictions as with the other protocols."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.serving.protocol import Protocol

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_the_predictions_are_the_same_over_grpc(door_url: str, photographs: list[Path], top_k: int) -> None:
    for photograph in photographs:
        with Client(door_url, MODEL_NAME, protocol=Protocol.V2) as over_http:
            told = over_http.predict(str(photograph), top_k)
        with Client(door_url, MODEL_NAME, protocol=Protocol.GRPC) as client:
            assert client.predict(str(photograph), top_k) == told


def test_predict_shows_the_same_over_grpc(script: Script, door_url: str, photographs: list[Path]) -> None:
    shown = script("predict", "--url", door_url, *photographs)
    done = script("predict", "--protocol", "grpc", "--url", door_url, *photographs)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", shown.stdout)


def test_one_picture_that_fails_over_grpc_is_a_line(
    script: Script, door_url: str, photographs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "none.jpg").write_bytes(b"no image")
    done = script("predict", "--protocol", "grpc", "--url", door_url, "none.jpg", photographs[0])
    assert done.returncode == 1
    assert re.fullmatch(r"error: none\.jpg: INVALID_ARGUMENT: .*not an image \(.*\)\n", done.stderr)
    assert str(photographs[0]) in done.stdout
