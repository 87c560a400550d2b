"""The packages stay separate: the source shows who imports whom, anywhere in a file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PIPELINE = sorted((CHECKOUT / "pipeline").rglob("*.py"))
IN_ROOMS = sorted((CHECKOUT / "pipeline").glob("*/**/*.py"))
HANDLER = sorted((CHECKOUT / "handler").rglob("*.py"))

# The kit is for any server, so it imports nothing of this one.
CONFORMANCE = sorted((CHECKOUT / "conformance").glob("*.py"))
OF_THE_KIT = {"conformance", "google", "grpc", "httpx", "rich"}

# Imports only go down; packages on the same level do not import each other.
FLOORS = {"commands": 4, "deployment": 3, "store": 2, "artefact": 1, "serving": 1, "supply": 1, "shared": 0}

HANDLERS_OWN = {"handler", "entry", "vision"}
# yaml: TorchServe reads model-config.yaml with it. multipart: only for forms, which only arrive through the door.
# pybase64: for its speed, if it is installed.
IN_THE_IMAGE = {"torch", "PIL", "numpy", "safetensors", "yaml", "multipart", "pybase64"}


def name_of(file: Path) -> str:
    """A file → its path in the checkout, as a test's name."""
    return file.relative_to(CHECKOUT).as_posix()


def imports(source: str) -> Iterator[str]:
    """The full names of a module's imports, including those inside functions and for the type checker."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import does not say which room it is from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(source: str) -> set[str]:
    return {name.split(".")[0] for name in imports(source)}


def wrong_way(source: str, room: str) -> list[str]:
    """What a module in this room of pipeline/ imports from a room that is not below it."""
    wrong = []
    for name in imports(source):
        package, _, inside = name.partition(".")
        target = inside.partition(".")[0]
        if package == "pipeline" and target != room and FLOORS.get(target, len(FLOORS)) >= FLOORS[room]:
            wrong.append(name)
    return wrong


def test_every_room_has_a_floor() -> None:
    assert {file.relative_to(CHECKOUT).parts[1] for file in IN_ROOMS} == set(FLOORS)


@pytest.mark.parametrize("file", IN_ROOMS, ids=name_of)
def test_imports_go_down_only(file: Path) -> None:
    assert wrong_way(file.read_text(), file.relative_to(CHECKOUT).parts[1]) == []


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("shared", "from pipeline.artefact.weights import Progress", "pipeline.artefact.weights.Progress"),
        ("serving", "from pipeline.artefact.model import MODEL_NAME", "pipeline.artefact.model.MODEL_NAME"),
        ("artefact", "import pipeline.serving.client as client", "pipeline.serving.client"),
        ("store", "from pipeline import deployment", "pipeline.deployment"),
        ("store", "def f():\n    from pipeline.commands import serve", "pipeline.commands.serve"),
        ("artefact", "if TYPE_CHECKING:\n    from pipeline.store.pull import x", "pipeline.store.pull.x"),
        ("commands", "import pipeline.__main__", "pipeline.__main__"),
    ],
)
def test_an_import_that_goes_up_or_across_is_found(room: str, source: str, found: str) -> None:
    assert wrong_way(source, room) == [found]


def test_an_import_that_goes_down_is_fine() -> None:
    source = "import os\nfrom pipeline.shared.errors import PipelineError\nfrom pipeline.store import pull"
    assert wrong_way(source, "deployment") == wrong_way(source, "store") == []


@pytest.mark.parametrize("file", PIPELINE, ids=name_of)
def test_the_pipeline_does_not_import_the_handler(file: Path) -> None:
    assert packages(file.read_text()) & HANDLERS_OWN == set()


@pytest.mark.parametrize("file", HANDLER, ids=name_of)
def test_the_handler_imports_only_itself_and_what_the_image_has(file: Path) -> None:
    """It imports neither pipeline/ nor torchvision nor kserve."""
    assert packages(file.read_text()) - {"vision"} - IN_THE_IMAGE - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("file", CONFORMANCE, ids=name_of)
def test_the_conformance_kit_imports_only_itself_and_four_libraries(file: Path) -> None:
    assert packages(file.read_text()) - OF_THE_KIT - set(sys.stdlib_module_names) == set()
