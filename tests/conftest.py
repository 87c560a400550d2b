"""What tests share: an archive built once, a TorchServe started once, photographs."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.weights import Weights, untrained_state
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports

# Each comes after those that it imports, whose asserts pytest could not explain otherwise.
PLUGINS = ("waiting", "temporary", "website", "cloud", "versions", "scripts", "kserve_crds")
pytest_plugins = [f"tests.support.{name}" for name in PLUGINS]

CHECKOUT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = sorted((CHECKOUT / "docs" / "photographs").glob("*.jpg"))


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """Under nohup, or behind a shell's `&`, signals are ignored, and what a test starts would inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    return PHOTOGRAPHS


@pytest.fixture(scope="session")
def untrained() -> Weights:
    return Weights("untrained", untrained_state())


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory, untrained: Weights) -> Path:
    """A directory in KServe's layout: config/ and model-store/alexnet.mar, with untrained weights."""
    made = tmp_path_factory.mktemp("models")
    (made / "config").mkdir()
    shutil.copy(CHECKOUT / "config.properties", made / "config")
    build_archive(CHECKOUT / "handler", untrained, made / "model-store" / "alexnet.mar")
    return made


@pytest.fixture(scope="session")
def server(directory: Path) -> Iterator[TorchServe]:
    """A real TorchServe with the archive, started once for all tests that only ask it something."""
    with TorchServe(directory, MODEL_NAME, Ports.any_free()) as running:
        yield running
