"""`make lock`: requirements/locked/, everything that pip installs here or in the image, with the SHA-256 of each file.

    all.txt              what make setup installs, except for PyTorch: Python 3.11 and later, on any system
    torch-cpu.txt        PyTorch for the CPU, if pip finds it without PyTorch's own index
    torch.txt            PyTorch from PyPI: with CUDA on Linux
    cuda.txt             dependencies of PyTorch's CUDA build, which is the default index's for Linux
    kserve-storage.txt   once more, for Python 3.14 and later, which it claims not to support
    image.txt            the serving image's packages, except for PyTorch: Python 3.11 on Linux
    keyless.txt          what the image has in addition if it verifies identities
    checkov.txt          scans Terraform, in a separate environment

The versions are those of requirements/constraints.txt: edit that, then regenerate these, with uv, which asks PyPI.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError
from pipeline.shared.whole import written_whole

REQUIREMENTS = Path("requirements")
LOCKED = REQUIREMENTS / "locked"
UV = Path(".venv-lock", "bin", "uv")
TIMEOUT_S = 600
COMPILE = ("pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header", "--no-config")
HEAD = "# Made by `make lock`, from requirements/: edit those.\n"

TORCH = ("torch", "torchvision")
CUDA = ("cuda-", "nvidia-", "triton")  # but not tritonclient
NOT_OURS = ("pip",)  # the environment keeps its own

# PyTorch's CPU build for Python 3.11 on Linux, x86-64, for machines that find it elsewhere than in PyTorch's index.
FOR_THE_CPU = {
    "2.13.0": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # pragma: allowlist secret
}


def main() -> None:
    """Writes all of them, or prints one line about what is wrong."""
    try:
        for name, text in locked(CHECKOUT).items():
            (CHECKOUT / LOCKED).mkdir(exist_ok=True)
            with written_whole(CHECKOUT / LOCKED / name) as unfinished:
                unfinished.write(text.encode())
    except PipelineError as error:
        sys.exit(f"error: {error}")


def locked(checkout: Path) -> dict[str, str]:
    """File → text. Raises PipelineError if uv cannot resolve them."""
    constraints = ("--constraint", str(REQUIREMENTS / "constraints.txt"))
    everywhere = (*constraints, "--universal", "--python-version", "3.11")
    image = (*constraints, "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36")
    everything = _compiled(checkout, "dev.txt", *everywhere)
    in_the_image = _compiled(checkout, "runtime.txt", *image)
    besides = _compiled(checkout, "keyless.txt", *image)
    scanner = _compiled(checkout, "checkov.txt", "--no-deps", "--python-version", "3.11.14")
    torch = [everything[name] for name in TORCH]
    version = torch[0].removeprefix("torch==").split()[0]
    for_the_cpu = (
        [f"torch=={version}+cpu\n    --hash=sha256:{FOR_THE_CPU[version]}\n"] if version in FOR_THE_CPU else []
    )
    storage = re.sub(r" ; [^\\\n]*", "", everything["kserve-storage"])
    return {
        "all.txt": _text(each for name, each in everything.items() if not _is_torchs(name) and name not in NOT_OURS),
        "torch-cpu.txt": _text([*for_the_cpu, torch[1]]),
        "torch.txt": _text(torch),
        "cuda.txt": _text(each for name, each in everything.items() if _is_cuda(name)),
        "kserve-storage.txt": _text([storage]),
        "image.txt": _text(each for name, each in in_the_image.items() if not _is_torchs(name)),
        "keyless.txt": _text(each for name, each in besides.items() if name not in in_the_image),
        "checkov.txt": _text(scanner.values()),
    }


def _compiled(checkout: Path, file: str, *options: str) -> dict[str, str]:
    """Package → its lines: version, marker, hashes."""
    command = [str(checkout / UV), *COMPILE, *options, str(REQUIREMENTS / file)]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=TIMEOUT_S)
    except OSError as error:
        raise PipelineError(f"{UV} cannot be started: {error.strerror}: run make lock") from None
    if done.returncode:
        raise PipelineError(f"uv cannot resolve {file}: {' '.join(done.stderr.split())[:500]}")
    entries = re.findall(r"^\S+==.*?(?=^\S+==|\Z)", done.stdout, re.MULTILINE | re.DOTALL)
    return {canonicalize_name(entry.partition("==")[0]): entry for entry in entries}


def _text(entries: Iterable[str]) -> str:
    """Each line of an entry except its last ends with a backslash."""
    lines = (" \\\n".join(line.rstrip(" \\") for line in entry.splitlines() if line.strip()) for entry in entries)
    return HEAD + "".join(f"{each}\n" for each in lines)


def _is_torchs(name: str) -> bool:
    return name in TORCH or _is_cuda(name)


def _is_cuda(name: str) -> bool:
    return name.startswith(CUDA) and name != "tritonclient"


if __name__ == "__main__":
    main()
