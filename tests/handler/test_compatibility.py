"""The archive runs where Python is 3.9 and packages are few; and the rooms of the house stay apart."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HANDLER = sorted((CHECKOUT / "handler").rglob("*.py"))
PIPELINE = sorted((CHECKOUT / "pipeline").rglob("*.py"))
IN_THE_IMAGE = {"torch", "PIL", "numpy", "safetensors", "yaml"}  # yaml: TorchServe reads model-config.yaml with it


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", HANDLER, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_the_handler_is_python_3_9(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    has_code = len(tree.body) > 1  # than the line that says what is in a folder
    assert not has_code or any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


@pytest.mark.parametrize("file", HANDLER, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_the_handler_imports_what_the_image_has(file: Path) -> None:
    assert imported(file) - {"vision"} - IN_THE_IMAGE - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("file", PIPELINE, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_the_pipeline_does_not_import_the_handler(file: Path) -> None:
    assert imported(file) & {"handler", "entry", "vision"} == set()
