"""The golden set: from a folder or a bucket, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.deployment.golden import read_golden
from pipeline.serving.comparing import Picture
from pipeline.shared.errors import PipelineError
from pipeline.store.bucket import connect
from pipeline.store.embedded_storage import EmbeddedStorage
from tests.support.deployments import reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"12345")
    return tmp_path


def test_a_folder(folder: Path) -> None:
    golden = read_golden(str(folder), 0.9)
    assert golden.pictures == [Picture(str(folder / f"{number}.jpg"), b"12345") for number in range(3)]
    assert golden.required == 0.9


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    assert reason(lambda: read_golden(str(tmp_path), 1)).startswith(f"no pictures in {tmp_path}")
    assert reason(lambda: read_golden(str(tmp_path / "gone"), 1)).endswith("gone: No such file or directory")


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        ("MOST_PICTURES", "has too many pictures: choose at most 2 of them"),
        ("MOST_BYTES_OF_ONE", "0.jpg has more than 2 bytes, which the model refuses"),
        ("MOST_BYTES", "have more than 2 bytes: choose fewer of them"),
    ],
)
def test_it_is_bounded(bound: str, sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"pipeline.deployment.golden.{bound}", 2)
    assert sentence in reason(lambda: read_golden(str(folder), 1))


@pytest.fixture
def bucket() -> Iterator[str]:
    with EmbeddedStorage("golden") as running:
        for name in ("set/b.png", "set/deep/a.jpg", "set/README.md", "set/.hidden.jpg", "setting/c.jpg"):
            connect().bucket(running.bucket).blob(name).upload_from_string(name.encode())
        yield running.bucket


@pytest.mark.slow
def test_a_bucket(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden(f"gs://{bucket}/set/", 1)
    assert golden.pictures == [
        Picture(f"gs://{bucket}/set/{name}", f"set/{name}".encode()) for name in ("b.png", "deep/a.jpg")
    ]
    assert reason(lambda: read_golden(f"gs://{bucket}/none", 1)).startswith(f"no pictures in gs://{bucket}/none")
    assert reason(lambda: read_golden("gs://other-bucket", 1)).startswith("there is no bucket gs://other-bucket")
    monkeypatch.setattr("pipeline.deployment.golden.MOST_PICTURES", 1)
    with pytest.raises(PipelineError, match="too many pictures: choose at most 1 of them"):
        read_golden(f"gs://{bucket}/set", 1)
