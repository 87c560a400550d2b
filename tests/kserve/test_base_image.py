"""`make image` asks the registry once for the base image's digest, and uses it from then on.

There is no engine here that builds images: a script in docker's place prints what docker prints.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
DOCKER = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
  "image inspect "*) printf '%s\\n' "$REPO_DIGESTS" ;;
esac
"""
BASE = "python:3.11.14-slim-bookworm"
FILE = Path("kserve", "runtime", "base-image.txt")


@pytest.fixture
def project(checkout: Path, tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "kserve/runtime/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / name, tmp_path / name)
    shutil.copytree(checkout / "requirements" / "locked", tmp_path / "requirements" / "locked")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    return tmp_path


def make_image(project: Path, digests: str = f"docker.io/library/python@{DIGEST}") -> tuple[int, list[str], str]:
    """The exit status, docker's arguments, and the output."""
    environment = {
        "PATH": f"{project / 'bin'}:{os.environ['PATH']}",
        "REPO_DIGESTS": digests,
        "LOG": str(project / "log"),
    }
    (project / "log").write_text("")
    done = subprocess.run(
        ["make", "image"], cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (project / "log").read_text().splitlines(), done.stdout + done.stderr


def test_the_digest_is_fetched_once_and_recorded(project: Path) -> None:
    status, asked, said = make_image(project)
    assert status == 0, said
    assert asked[0] == f"pull --platform linux/amd64 {BASE}"
    assert (project / FILE).read_text() == f"{BASE}@{DIGEST}\n"
    assert f"commit {FILE}" in said
    assert f"--build-arg BASE={BASE}@{DIGEST} " in asked[-1]

    (project / FILE).write_text(f"{BASE}@sha256:{'f' * 64}\n")
    status, asked, said = make_image(project)
    assert status == 0, said
    (build,) = asked
    assert f"--build-arg BASE={BASE}@sha256:{'f' * 64} " in build


def test_without_a_digest_nothing_is_built(project: Path) -> None:
    status, asked, said = make_image(project, digests="")
    assert status != 0
    assert f"does not say which digest {BASE} has" in said
    assert not (project / FILE).exists()
    assert not [line for line in asked if line.startswith("build")]


def test_whatever_pip_installs_here_has_hashes(checkout: Path) -> None:
    """Except for PyTorch from its own index, which gives its files' hashes itself."""
    makefile = (checkout / "Makefile").read_text()
    assert re.search(r"^LOCKED = \$\(PIP\) --require-hashes --requirement requirements/locked$", makefile, re.MULTILINE)
    used = re.findall(r"\$\(PIP\) (\S+ \S+)", makefile)
    assert sorted(used) == [
        "--ignore-requires-python --require-hashes",
        "--index-url $(TORCH_CPU_INDEX)",
        "--require-hashes --requirement",
    ]
    assert not re.search(r"\bpip(?: \S+)* install (?!--no-deps$)", makefile, re.MULTILINE)
