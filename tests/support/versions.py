"""Versions of a model that are quick to make and send: only packing and uploading matter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.contents import MODEL_FILE, PROOF_FILE, write_contents, write_facts
from pipeline.artefact.model import MODEL, MODEL_NAME, Model, read_model
from pipeline.artefact.version import ARCHIVE, CONFIG, Version, archive_of
from pipeline.shared.progress import Progress
from pipeline.store.bucket import connect
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.storage_uri import StorageUri
from tests.support.cloud import Cloud

Files = dict[str, Path]


class Publish(Protocol):
    """Publishes files in the bucket under `models`; warnings count as failures."""

    def __call__(
        self, files: Mapping[str, Path], progress: Progress = ..., warn: Callable[[str], None] = ...
    ) -> Outcome: ...


def write_tiny(folder: Path, origin: str, weight: np.ndarray) -> Path:
    """Everything in an archive except the handler, which no server can load: in a new folder."""
    from pipeline.artefact.program import Program  # torch takes seconds

    folder.mkdir()
    write_contents(Program(b"{}\n", {"a": weight}), origin, MODEL, folder)
    write_facts(MODEL, bfloat16=True, folder=folder)
    (folder / PROOF_FILE).write_bytes(b"{}\n")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "contents", "tiny", np.ones(3, np.float32))


@pytest.fixture(scope="session")
def pets_model(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """AlexNet under another name, as in a models/pets.yaml."""
    models = Path(shutil.copytree(checkout / "models", tmp_path_factory.mktemp("checkout") / "models"))
    said = (models / "alexnet.yaml").read_text()
    (models / "pets.yaml").write_text(said.replace("name: alexnet\n", "name: pets\n"))
    return read_model(models / "pets.yaml")


@pytest.fixture(scope="session")
def pets_archive(checkout: Path, contents: Path, pets_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, which can be served; the file's name differs from the model's."""
    folder = tmp_path_factory.mktemp("archive")
    shutil.copytree(contents, folder / "contents", copy_function=os.link)
    (folder / "contents" / MODEL_FILE).unlink()
    write_facts(pets_model, bfloat16=True, folder=folder / "contents")
    return build_archive(checkout / "handler", folder / "contents", "pets", folder / "any.mar").path


@pytest.fixture(scope="session")
def pets(checkout: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a version of it that is uploaded in one piece."""
    archive = tmp_path_factory.mktemp("pets") / "pets.mar"
    build_archive(checkout / "handler", tiny, "pets", archive)
    return {CONFIG: checkout / "config.properties", archive_of("pets"): archive}


def _files(checkout: Path, folder: Path, contents: Path) -> Files:
    archive = build_archive(checkout / "handler", contents, MODEL_NAME, folder / "alexnet.mar").path
    return {CONFIG: checkout / "config.properties", ARCHIVE: archive}


@pytest.fixture(scope="session")
def small(checkout: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a version that is uploaded in one piece."""
    return _files(checkout, tmp_path_factory.mktemp("small"), tiny)


@pytest.fixture(scope="session")
def large(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a version whose archive `publish` uploads in three parts."""
    random = np.random.default_rng(1).standard_normal(625_000, np.float32)
    folder = tmp_path_factory.mktemp("large")
    return _files(checkout, folder, write_tiny(folder / "contents", "large", random))


@pytest.fixture
def publish(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """With smaller parts."""
    monkeypatch.setattr("pipeline.store.publish.PART_BYTES", 2**20)

    def run(
        files: Mapping[str, Path],
        progress: Progress = lambda *_: None,
        warn: Callable[[str], None] = pytest.fail,
    ) -> Outcome:
        prefix = StorageUri(cloud.bucket, "models")
        return publish_version(connect(for_writing=True), prefix, Version.of(files), files, progress, warn)

    return run
