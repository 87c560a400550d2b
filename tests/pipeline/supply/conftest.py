"""A small checkout with every file that describes the image's contents, for tests to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.supply import parts
from pipeline.supply.statements import made


@pytest.fixture
def tree(checkout: Path, tmp_path: Path) -> Path:
    copied = [
        *("pyproject.toml", "kserve/runtime/Dockerfile", "kserve/runtime/netty.json", "kserve/runtime/sbom.cdx.json"),
        *(f"{parts.HERE}/{name}" for name in ("jar.json", "advisories.yaml", "statements.yaml")),
        *(test.partition("::")[0] for each in made() for test in each.tests),
    ]
    for name in copied:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / name, tmp_path / name)
    shutil.copytree(checkout / "requirements", tmp_path / "requirements")
    return tmp_path
