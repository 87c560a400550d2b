"""Groups of processes: everything that a command starts has a mark in its environment, by which it is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from pipeline.shared.errors import PipelineError

MARK = "BENCHMARK_GROUP"
STOP_TIMEOUT_S = 5  # after SIGTERM; then whatever still runs is killed
POLL_S = 0.02
TAIL = 1500  # characters of a log that an error shows


class Group:
    """A context manager around a command (`leader`) and everything that it starts. Its output goes to a file."""

    def __init__(self, command: Sequence[object], directory: Path, variables: Mapping[str, str]) -> None:
        self._command = [str(word) for word in command]
        self._directory = directory
        self._mark = uuid.uuid4().hex
        self._environment = os.environ | variables | {MARK: self._mark}
        self._log = directory / "output.log"

    def __enter__(self) -> Group:
        with open(self._log, "wb") as log:
            self.leader = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which then stops the group
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leader.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        while left := self.processes():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(POLL_S)
        self.leader.wait()

    def processes(self) -> list[psutil.Process]:
        """The live ones, including those in their own sessions (BentoML's workers) and those whose parent has died."""
        self.leader.poll()  # otherwise it stays as a zombie
        return [process for process in psutil.process_iter() if _is_marked(process, self._mark)]

    def check_alive(self) -> None:
        """Raises PipelineError if the command has ended."""
        if self.leader.poll() is not None:
            raise PipelineError(f"{self._command[0]} ended on its own; its last output:\n{self.tail()}")

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-TAIL:]


def _is_marked(process: psutil.Process, mark: str) -> bool:
    with suppress(OSError, psutil.Error):  # it has just ended, or is another user's
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    return False


def answer_of(command: Sequence[object], cwd: Path, variables: Mapping[str, str], timeout: float) -> Any:
    """Runs a command that prints one line of JSON; whatever happens, none of its processes keeps running."""
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # these commands use only one session
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise PipelineError(f"{' '.join(words[:5])} … did not end within {timeout:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise PipelineError(f"{' '.join(words[:5])} … ended with status {process.returncode}")
    return json.loads(printed)


def memory(processes: list[psutil.Process]) -> dict[str, float]:
    """Resident memory of all of them in MB: `rss` counts shared memory in each of them, `pss` (Linux) only once."""
    rss = pss = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used = process.memory_full_info()
            rss += used.rss
            pss += getattr(used, "pss", 0)
    return {"processes": len(processes), "rss_mb": rss / 1e6, "pss_mb": pss / 1e6}
