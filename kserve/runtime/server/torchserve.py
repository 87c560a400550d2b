"""TorchServe's process: Java, without TorchServe's launcher, which would stay between a signal and the server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ts

from server import log
from server.errors import NotServed
from server.folder import Folder

STOP_TIMEOUT_S = 20


def start(folder: Folder) -> subprocess.Popen[str]:
    """What it prints comes through a pipe. Raises NotServed where there is no Java."""
    try:
        return subprocess.Popen(
            _command(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise NotServed(f"{error.filename}: {error.strerror}: Java cannot be started, set JAVA_HOME") from None


def stop(process: subprocess.Popen[str]) -> None:
    """Asks it to end, and ends it where it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.say("WARNING", f"TorchServe did not stop within {STOP_TIMEOUT_S} s and is killed")
        process.kill()


def _command(folder: Folder) -> list[str]:
    """What the launcher would start."""
    home = os.environ.get("JAVA_HOME")
    packages = Path(ts.__file__).resolve().parent.parent
    return [
        str(Path(home, "bin", "java")) if home else "java",
        f"-Dmodel_server_home={packages}",
        f"-Djava.io.tmpdir={tempfile.gettempdir()}",
        f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml').resolve().as_uri()}",
        *folder.vmargs,
        *("-cp", str(packages / "ts" / "frontend" / "*")),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("-f", str(folder.config)),
        *("-s", str(folder.store)),
        "-ncs",  # no snapshots of its configuration: there is nowhere to write them
    ]
