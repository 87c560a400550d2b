"""`gcloud builds submit` sends the files that the Dockerfile needs, and nothing from an installation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

# Files of a used checkout that no build may see.
LEFT_BEHIND = (
    ".git/config",
    ".venv/bin/python",
    "kserve/runtime/server/__pycache__/door.pyc",
    "model-store/alexnet.mar",
    "terraform/cluster/.terraform/providers/google",
    "terraform/environments/dev.tfvars",
    "terraform/state/terraform.tfstate",
)


def test_a_build_gets_only_what_the_dockerfile_needs(tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for name in (*tracked.strip("\0").split("\0"), *LEFT_BEHIND, ".gcloudignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".gcloudignore", ".gitignore", "terraform/.gitignore"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    listed = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload", tmp_path],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "config"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
    )
    sent = set(listed.stdout.split())
    dockerfile = (CHECKOUT / "kserve" / "runtime" / "Dockerfile").read_text()
    taken = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    for name in " ".join(taken).split():
        assert any(file == name or file.startswith(f"{name}/") for file in sent), name
    assert sent >= {".dockerignore", "pyproject.toml", "kserve/runtime/Dockerfile"}
    assert not sent & set(LEFT_BEHIND)
    assert not [
        file
        for file in sent
        if not re.match(r"\.dockerignore|LICENSE|NOTICE|pyproject\.toml|requirements/|kserve/runtime/", file)
    ]
