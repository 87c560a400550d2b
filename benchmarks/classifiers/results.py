"""The measurements, one row for each architecture, in one file, so that a run can be resumed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.places import RESULTS

FILE = RESULTS / "classifiers.json"

Row = dict[str, Any]


def read(file: Path = FILE) -> dict[str, Row]:
    """By architecture."""
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def put(rows: dict[str, Row], file: Path = FILE) -> None:
    """Replaces the rows of the same architectures. Others stay, even those that another run has just written."""
    with _alone(file.parent):
        merged = dict(sorted((read(file) | rows).items()))
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in merged.items())
        part = file.with_name(f".{file.name}")
        part.write_text(f"{{\n{lines}\n}}\n")
        os.replace(part, file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
