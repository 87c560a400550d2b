"""Terraform on a copy of terraform/, and the plans of its own tests.

Needs no Google Cloud account: providers are mocked and, if they cannot be downloaded, replaced by stand-ins that know
their schemas (a folder with a script `with-providers`, named by TERRAFORM_OFFLINE).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = ["state", "cluster", "kserve"]
OFFLINE = Path(os.environ.get("TERRAFORM_OFFLINE") or CHECKOUT.parent / "shared" / "terraform-offline")

# Files of a real installation that a checkout may hold, and no test may see.
LEFT_BEHIND = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars", "*.tfplan")

# Go collects less often, in one thread: that took up to a third of the processor time of `terraform test`.
GARBAGE = {"GOGC": "400", "GOMEMLIMIT": "1GiB", "GOMAXPROCS": "1"}

Resource = dict[str, Any]


@dataclass(frozen=True)
class Terraform:
    """A copy of terraform/, and a command prefix that supplies providers."""

    folders: Path
    prefix: list[str]

    def __call__(self, folder: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.prefix, "terraform", f"-chdir={self.folders / folder}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment(), check=False)

    def prepared(self, folder: str | Path) -> str:
        """Why a folder's providers are not available, or nothing. Stand-ins need no preparation."""
        if self.prefix:
            return ""
        done = self(folder, "init", "-backend=false", "-input=false", "-no-color")
        return "" if done.returncode == 0 else said(done)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return {**kept, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **GARBAGE}


def said(done: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[│╷╵]|\x1b\[[0-9;]*m", " ", done.stdout + done.stderr))


def of(planned: list[Resource], kind: str) -> list[Resource]:
    found = [resource["values"] for resource in planned if resource["type"] == kind]
    assert found, f"no test plans a {kind}"
    return found


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value
