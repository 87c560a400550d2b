"""Only for the tests of pipeline/: a handler that may be changed, and free ports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.shared.ports import free_ports


@pytest.fixture
def handler_directory(checkout: Path, tmp_path: Path) -> Path:
    """A copy of handler/ that a test may change."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(checkout / "handler", tmp_path / "handler", ignore=ignored))


@pytest.fixture
def free_port() -> int:
    (port,) = free_ports(1)
    return port
