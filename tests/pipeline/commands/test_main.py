"""What all commands have in common: how they start, and how they end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COMMANDS = {"package": "--weights=x", "publish": "gs://bucket", "serve": "x", "predict": "x", "deploy": "--delete"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        *((name, "name: [", "not YAML") for name in COMMANDS),
        ("publish", "name: Alex Net", "name must be up to 47 lower-case letters, digits and hyphens"),
        ("package", None, "no model file at "),
    ],
)
def test_a_model_that_cannot_be_read_is_one_line(
    name: str, content: str | None, sentence: str, checkout: Path, tmp_path: Path, user_environment: None
) -> None:
    for folder in ("scripts", "pipeline", "kserve/runtime"):
        shutil.copytree(checkout / folder, tmp_path / folder)
    (tmp_path / ".venv").symlink_to(checkout / ".venv")
    (tmp_path / "models").mkdir()
    if content is not None:
        (tmp_path / "models" / "alexnet.yaml").write_text(content)
    done = subprocess.run(
        [tmp_path / "scripts" / f"{name}.sh", COMMANDS[name]], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: ")
    assert str(tmp_path / "models" / "alexnet.yaml") in done.stderr
    assert sentence in done.stderr
