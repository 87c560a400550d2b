"""The peers' environments: created on first use, and again after a peer's requirements change."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.places import ENVIRONMENTS, PEERS
from pipeline.shared.errors import PipelineError

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # see the Makefile for the reason
TIMEOUT_S = 5
SCHEMAS = PEERS / "torchvision_schemas.py"
VERSIONS = "from importlib.metadata import version; print(version('torch'), version('torchvision'))"


def environment(name: str, say: Callable[[str], None]) -> Path:
    """The Python of the environment `name`, with the packages in peers/NAME/requirements.txt."""
    requirements = PEERS / name / "requirements.txt"
    directory = ENVIRONMENTS / name
    python, stamp = directory / "bin" / "python", directory / "requirements.txt"
    wanted = _lines(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"making the environment of {name} (once)")
    shutil.rmtree(directory, ignore_errors=True)
    _call([sys.executable, "-m", "venv", directory])
    if _reachable(TORCH_CPU_INDEX):
        pins = re.findall(r"^torch(?:vision)?==\S+", wanted, re.MULTILINE)
        _pip(python, ["--no-deps", "--index-url", TORCH_CPU_INDEX, *pins])
    _pip(python, ["--requirement", requirements])
    _cure_torchvision(python)
    stamp.write_text(wanted)
    return python


def _lines(requirements: Path) -> str:
    """A requirements file, with the files that it includes."""
    lines = []
    for line in requirements.read_text().splitlines():
        included = line.removeprefix("-r ")
        lines.append(_lines(requirements.parent / included) if included != line else line)
    return "\n".join(lines)


def _cure_torchvision(python: Path) -> None:
    torch, torchvision = _call([python, "-c", VERSIONS]).split()
    if torch.endswith("+cpu") and not torchvision.endswith("+cpu"):
        (packages,) = python.parent.parent.glob("lib/python*/site-packages")
        shutil.copy(SCHEMAS, packages)
        (packages / "torchvision_schemas.pth").write_text("import torchvision_schemas\n")


def _reachable(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=TIMEOUT_S):  # noqa: S310
            return True
    except OSError:
        return False


def _pip(python: Path, arguments: list[object]) -> None:
    _call([python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *arguments])


def _call(command: list[object]) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"{' '.join(words)} failed:\n{done.stderr.strip()[-1500:]}")
    return done.stdout
