"""Shared by tests: an archive built once, a TorchServe started once, photographs."""

from __future__ import annotations

import os
import shutil
import signal
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from pipeline.artefact.contents import CLASSES_FILE, MODEL_FILE, PROGRAM_FILE, PROOF_FILE, WEIGHTS_FILE
from pipeline.artefact.model import MODEL, MODEL_NAME, read_model
from pipeline.artefact.weights import Weights, untrained_state
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import SHARE, Ports

# Each comes after those that it imports; otherwise, pytest could not explain their asserts.
PLUGINS = (
    "waiting",
    "one_worker",
    "temporary",
    "website",
    "grpc_service",
    "collector",
    "cloud",
    "oci_registry",
    "versions",
    "scripts",
    "kserve_crds",
)
pytest_plugins = [f"tests.support.{name}" for name in PLUGINS]

# Seconds pass between the choice of a port and its use: each of pytest-xdist's processes, and what it starts, chooses
# from its own ports.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    FIRST, LAST_OF_ALL = 20_000, 32_000
    each = (LAST_OF_ALL - FIRST) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    first = FIRST + each * int(worker.removeprefix("gw"))
    os.environ[SHARE] = f"{first}-{first + each - 1}"

# What tests start shares two processors: torch's threads do not wait for each other in a loop, and what is written in
# Go (kubectl, terraform, trivy) collects its garbage only where there is much of it.
os.environ |= {"GOMP_SPINCOUNT": "1000", "GOGC": "off", "GOMEMLIMIT": "1GiB"}

CHECKOUT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = sorted((CHECKOUT / "docs" / "photographs").glob("*.jpg"))


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """Under nohup, or with a shell's `&`, signals are ignored, and processes that a test starts would inherit that."""
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
    """A directory in KServe's layout: config/ and model-store/alexnet.mar, with untrained weights.

    The only network that is traced and proved here, which takes ten seconds: use `contents` for a test's own archives.
    """
    from pipeline.artefact.packing import pack  # torch takes seconds

    made = tmp_path_factory.mktemp("models")
    (made / "config").mkdir()
    shutil.copy(CHECKOUT / "config.properties", made / "config")
    pack(CHECKOUT / "handler", untrained, MODEL, made / "model-store" / "alexnet.mar")
    return made


LIGHT = """
from torch import nn

def build(classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))
"""


@pytest.fixture(scope="session")
def light_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a network of one layer under AlexNet's name, and with its labels: where what it answers is all the
    same. A server has it a second of processor time earlier, and again as soon for each that is started.
    """
    from pipeline.artefact.packing import pack  # torch takes seconds
    from pipeline.commands.package import load

    source, made = tmp_path_factory.mktemp("light"), tmp_path_factory.mktemp("models")
    said = yaml.safe_load(MODEL.file.read_text(encoding="utf-8"))
    said |= {"architecture": "light.py:build", "weights": "untrained", "labels": str(MODEL.folder / said["labels"])}
    (source / "light.py").write_text(LIGHT)
    (source / "light.yaml").write_text(yaml.safe_dump(said))
    (made / "config").mkdir()
    shutil.copy(CHECKOUT / "config.properties", made / "config")
    model, weights = load(read_model(source / "light.yaml"))
    pack(CHECKOUT / "handler", weights, model, made / "model-store" / "alexnet.mar")
    return made


@pytest.fixture(scope="session")
def model_dir(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That archive, unpacked as by TorchServe for a worker."""
    unpacked = tmp_path_factory.mktemp("model")
    with zipfile.ZipFile(directory / "model-store" / "alexnet.mar") as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="session")
def contents(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That archive's files other than the handler, for `build_archive`."""
    made = tmp_path_factory.mktemp("contents")
    for name in (PROGRAM_FILE, WEIGHTS_FILE, CLASSES_FILE, MODEL_FILE, PROOF_FILE):
        (made / name).hardlink_to(model_dir / name)
    return made


@pytest.fixture(scope="session")
def server(directory: Path) -> Iterator[TorchServe]:
    """A real TorchServe with the archive, started once for all tests that only send it requests."""
    with TorchServe(directory, MODEL_NAME, Ports.any_free()) as running:
        yield running


@pytest.fixture(scope="session")
def door_url(server: TorchServe) -> str:
    """The address of that server's front door."""
    if not has_envoy():
        pytest.skip("there is no Envoy for this platform")
    return server.url


# --- Quick tests first ------------------------------------------------------------------------------------------------

# Tests that use one of these start a server, a script or Terraform; new fixtures of the kind belong here. Other
# slow tests are marked where they are.
SLOW_FIXTURES = {
    *("api", "deserted", "door", "door_url", "embedded_storage", "overloaded", "realest_registry", "registry"),
    *("running", "server", "servers", "script", "start", "terraform", "traced", "watched"),
}


# `make test` has two processes (pytest-xdist); a third would need more than 20 GB of memory. Tests of the session's
# own server stay in one of them; the files listed here go to whichever process is free.
ANY_PROCESS = (
    *("tests/handler/", "tests/benchmarks/", "tests/conformance/test_checks.py"),
    *("tests/kserve/test_manifests.py", "tests/kserve/test_names.py", "tests/kserve/test_crds.py"),
    *("tests/kserve/test_scanner.py", "tests/kserve/test_entry_point.py"),
    *(
        "tests/pipeline/artefact/",
        "tests/pipeline/commands/",
        "tests/pipeline/deployment/",
        "tests/test_your_classifier.py",
    ),
)
# Their tests measure how long others wait: at the end, when the other processes have little left to do.
LAST = "test_attacks.py"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    for item in items:
        if isinstance(item, pytest.Function) and SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")
    items.sort(key=when)  # keeps the order of the others; --stepwise uses the order in which they run
    result = yield  # pytest obeys `-m`
    items.sort(key=when)  # such as after --failed-first
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/terraform/"):
                return "terraform"  # its own tests run once
            return nodeid.partition("::")[0] if nodeid.startswith(ANY_PROCESS) else "servers"

    return ByFile(config, log)


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def when(item: pytest.Item) -> tuple[bool, bool]:
    return is_slow(item), item.path.name == LAST


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    slow = sum(map(is_slow, items))
    quick = len(items) - slow
    return [f"first {quick} that need no server, then {slow} that do, or take long"] if quick and slow else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Reports between the two how the first went."""
    result = yield
    reporter: pytest.TerminalReporter | None = item.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and nextitem is not None and is_slow(nextitem) and not is_slow(item):
        reporter.write("\n")
        failed = len(reporter.stats.get("failed", [])) + len(reporter.stats.get("error", []))
        reporter.write_sep("-", f"{failed} failed (Ctrl-C shows them)" if failed else "all well; the rest follows")
    return result
