"""What a test may leave behind: temporary files and processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

Alive = Callable[[psutil.Process], bool]
Processes = Callable[[], list[psutil.Process]]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files of this process and its children. Its path is short because of sockets."""
    made = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", str(made))  # the standard library's own setting
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def alive() -> Alive:
    def is_alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return is_alive


@pytest.fixture
def processes(temporary: Path, alive: Alive) -> Processes:
    """All processes that were started with `temporary`, or a folder in it, as their TMPDIR."""

    def find() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _told(process, temporary) and alive(process)]

    return find


def _told(process: psutil.Process, temporary: Path) -> bool:
    try:
        return Path(process.environ().get("TMPDIR", "/")).is_relative_to(temporary)
    except (psutil.Error, OSError):  # gone, or another user's
        return False
