"""scripts/*.sh before any Python runs: called from anywhere, and in a checkout that is not set up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(path.name for path in (CHECKOUT / "scripts").glob("*.sh"))
IN_PYTHON = [name for name in SCRIPTS if name != "environment.sh"]


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A checkout with only the scripts."""
    return Path(shutil.copytree(CHECKOUT / "scripts", tmp_path / "another checkout" / "scripts")).parent


def run(*command: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: ")
    return done.stderr.removeprefix("error: ").rstrip("\n")


# --- Set-up -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IN_PYTHON)
def test_without_a_set_up_a_line_says_so(name: str, another: Path) -> None:
    assert refusal(run(another / "scripts" / name)) == f"not set up yet: run make setup in {another} first"


@pytest.mark.parametrize("name", IN_PYTHON)
def test_an_interrupted_set_up_is_told(name: str, another: Path) -> None:
    """Python is there from its first second."""
    (another / ".venv" / "bin").mkdir(parents=True)
    (another / ".venv" / "bin" / "python").symlink_to(shutil.which("python3") or "python3")
    said = refusal(run(another / "scripts" / name))
    assert said == f"the set-up was not finished: run make setup in {another} again"


def test_a_python_that_is_gone_is_told(another: Path) -> None:
    (another / ".venv" / "bin").mkdir(parents=True)
    (another / ".venv" / "bin" / "python").symlink_to("/gone/python3")
    (another / ".venv" / ".ready").touch()
    assert refusal(run(another / "scripts" / "serve.sh")).startswith(f"the Python of {another / '.venv'} is missing")


def test_a_python_that_is_not_ours_to_run_is_not_said_to_be_gone(another: Path, tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root may do all, and there is no setpriv on this machine")
    (another / ".venv" / "bin").mkdir(parents=True)
    (another / ".venv" / ".ready").touch()
    (tmp_path / "closed").mkdir()
    shutil.copy("/bin/sh", tmp_path / "closed" / "python3")
    (another / ".venv" / "bin" / "python").symlink_to(tmp_path / "closed" / "python3")
    (tmp_path / "closed").chmod(0)
    as_others = [str(setpriv), "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        said = refusal(run(*as_others, another / "scripts" / "serve.sh"))
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert said.startswith(f"you may not run {another / '.venv' / 'bin' / 'python'}, or what it links to (")


def test_make_setup_is_unfinished_until_its_end(tmp_path: Path) -> None:
    """Even if it was complete before: a Python that does nothing fails at the first step after `venv`."""
    if shutil.which("make") is None:
        pytest.skip("make is not on this machine")
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy)(CHECKOUT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    ready = tmp_path / ".venv" / ".ready"
    ready.touch()
    os.utime(ready, (0, 0))  # older than required
    (tmp_path / "python").write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    (tmp_path / "python").chmod(0o755)
    assert run("make", "setup", f"PYTHON={tmp_path / 'python'}", cwd=tmp_path).returncode != 0
    assert not ready.exists()


# --- From wherever they are called ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_fits_into_the_terminal_and_is_whole(name: str, columns: int, tmp_path: Path) -> None:
    done = run(CHECKOUT / "scripts" / name, "--help", cwd=tmp_path, COLUMNS=str(columns))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scripts/{name}" in done.stdout
    assert re.search(r"<\w", done.stdout) is None
    assert str(CHECKOUT) not in done.stdout
    if name in ("package.sh", "publish.sh"):
        assert "model-store/" in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > columns] == []


@pytest.mark.slow
def test_a_symbolic_link_leads_to_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "predict").symlink_to(CHECKOUT / "scripts" / "predict.sh")
    (tmp_path / "chained").symlink_to("predict")
    (tmp_path / "folder").symlink_to(CHECKOUT / "scripts")
    for command in (tmp_path / "chained", tmp_path / "folder" / "predict.sh"):
        assert run(command, "--help", cwd=tmp_path).stdout.startswith("Usage: scripts/predict.sh")
    assert run("predict", "--help", PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 0


@pytest.mark.slow
def test_cdpath_leads_nowhere_else(tmp_path: Path, another: Path) -> None:
    """`cd scripts/..` would go to another checkout, and print its path."""
    for name in ("predict.sh", "environment.sh"):
        done = run(f"scripts/{name}", "--help", cwd=CHECKOUT, CDPATH=str(another))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ")


def test_the_environment_takes_no_other_argument() -> None:
    done = run(CHECKOUT / "scripts" / "environment.sh", "--halp")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: --halp: an environment's name may have only a-z 0-9 -, such as dev: see scripts/environment.sh "
        "--help\n"
    )


def test_the_environments_help_needs_no_terraform(tmp_path: Path) -> None:
    for tool in ("sh", "dirname", "readlink", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    done = run(CHECKOUT / "scripts" / "environment.sh", "--help", PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "BUCKET" in done.stdout
