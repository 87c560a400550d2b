"""What only the tests of pipeline/ need: a handler that may be changed, and free ports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports, free_ports


@pytest.fixture
def handler_directory(checkout: Path, tmp_path: Path) -> Path:
    """A copy of handler/ that a test may change."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(checkout / "handler", tmp_path / "handler", ignore=ignored))


@pytest.fixture
def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture
def port() -> int:
    """A free one, with two free ones after it."""
    while True:
        (port,) = free_ports(1)
        try:
            Ports.starting_at(port).check_free()
        except (PipelineError, OverflowError):
            continue
        return port
