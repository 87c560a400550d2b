"""The archive runs on Python 3.9. (tests/test_rooms.py checks that it needs few packages.)"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HANDLER = sorted((CHECKOUT / "handler").rglob("*.py"))


@pytest.mark.parametrize("file", HANDLER, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_the_handler_is_python_3_9(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    has_code = len(tree.body) > 1  # more than the folder's docstring
    assert not has_code or any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
