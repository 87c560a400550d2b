"""The log on stdout: one JSON object a line, with the names that Cloud Logging reads."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from contextlib import suppress
from typing import IO

# What is on its way to stdout; and how long the end waits for somebody to read it.
LINES: queue.Queue[str] = queue.Queue(10_000)
FLUSH_TIMEOUT_S = 2
POLL_S = 0.01


def start() -> None:
    threading.Thread(target=_write_lines, daemon=True).start()


def say(severity: str, message: str) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write(json.dumps({"time": moment, "severity": severity, "logger": "serve", "message": message}) + "\n")


def forward(output: IO[str]) -> None:
    """What TorchServe logs is JSON; what the JVM prints becomes it."""
    for line in output:
        if line.startswith("{"):
            _write(line)
        elif line.strip():
            say("INFO", line.rstrip("\n"))


def flush() -> None:
    deadline = time.monotonic() + FLUSH_TIMEOUT_S
    while LINES.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _write(line: str) -> None:
    """A log that is full, or that nobody reads, loses lines; it stops neither the server nor its end."""
    with suppress(queue.Full):
        LINES.put_nowait(line)


def _write_lines() -> None:
    while True:
        with suppress(OSError):
            os.write(1, LINES.get().encode())
        LINES.task_done()
