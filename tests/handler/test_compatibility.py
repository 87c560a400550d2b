"""The archive runs where Python is 3.9 and packages are few; and the rooms of the house stay apart."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HANDLER = sorted((CHECKOUT / "handler").glob("*.py"))
PIPELINE = sorted((CHECKOUT / "pipeline").glob("*.py"))
IN_THE_IMAGE = {"torch", "PIL", "numpy", "safetensors"}


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", HANDLER, ids=lambda file: file.name)
def test_the_handler_is_python_3_9(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


@pytest.mark.parametrize("file", HANDLER, ids=lambda file: file.name)
def test_the_handler_imports_what_the_image_has(file: Path) -> None:
    own = {module.stem for module in HANDLER}
    assert imported(file) - own - IN_THE_IMAGE - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("file", PIPELINE, ids=lambda file: file.name)
def test_the_pipeline_does_not_import_the_handler(file: Path) -> None:
    assert imported(file) & {module.stem for module in HANDLER} - {"errors"} == set()
    assert "handler" not in imported(file)
