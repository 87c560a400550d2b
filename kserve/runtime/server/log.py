"""The log on stdout: one JSON object per line, with the names that Cloud Logging reads.

TorchServe's and Envoy's output passes through here: lines are truncated and stripped of control characters, so that
clients can neither fill the disk nor forge a line.
"""

from __future__ import annotations

import json
import os
import queue
import re
import threading
import time
from contextlib import suppress
from typing import IO, Any

# Lines on their way to stdout, and how long shutdown waits for them to be read.
LINES: queue.Queue[str] = queue.Queue(10_000)
FLUSH_TIMEOUT_S = 2
LONGEST_TEXT = 4096  # characters: the stack trace of a defect is shorter
LONGEST_READ = 65536
ABOUT_REQUESTS = ("door", "envoy")
MOST_BYTES = 400_000  # about 1200 lines at once
BYTES_A_SECOND = 4_000  # and a dozen a second
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
TELL_EVERY_S = 60
POLL_S = 0.01


class Room:
    """Limits the lines about refused requests to a number of bytes, and so many more per second, to protect the disk.

    Lines that were asked for (LOG_REQUESTS) are not counted, nor are those of the model and TorchServe.
    """

    def __init__(self) -> None:
        self._bytes = float(MOST_BYTES)
        self._at = time.monotonic()
        self._left_out = 0

    def for_line(self, entry: dict[str, Any], size: int) -> bool:
        if entry.get("logger") not in ABOUT_REQUESTS or entry.get("severity") == "INFO":
            return True
        now = time.monotonic()
        self._bytes = min(MOST_BYTES, self._bytes + (now - self._at) * BYTES_A_SECOND)
        self._at = now
        if self._bytes < size:
            self._left_out += 1
            return False
        self._bytes -= size
        self.tell()
        return True

    def tell(self) -> None:
        """Logs how many lines were left out since the last report, if any."""
        left_out, self._left_out = self._left_out, 0
        if left_out:
            say("WARNING", f"{left_out} lines about refused requests were left out", "serve")


ROOM = Room()


def start() -> None:
    threading.Thread(target=_write_lines, daemon=True).start()
    threading.Thread(target=_tell_now_and_then, daemon=True).start()


def say(severity: str, message: str, logger: str = "serve") -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write({"time": moment, "severity": severity, "logger": logger, "message": message})


def forward(output: IO[str], logger: str) -> None:
    """Forwards JSON lines of TorchServe and Envoy, and turns others into JSON. Returns at the end of the output."""
    with suppress(ValueError):  # closed
        while line := output.readline(LONGEST_READ):
            if not line.endswith("\n"):
                _skip_line(output)
            entry = None
            with suppress(ValueError, RecursionError):  # truncated, or not JSON
                entry = json.loads(line)
            if isinstance(entry, dict):
                if isinstance(entry.get("severity"), str):  # Envoy's are lower-case
                    entry["severity"] = entry["severity"].upper()
                if ROOM.for_line(entry, len(line)):
                    _write(entry)
            elif line.strip():
                say("INFO", line.rstrip("\n"), logger)


def _skip_line(output: IO[str]) -> None:
    while (more := output.readline(LONGEST_READ)) and not more.endswith("\n"):
        pass


def flush() -> None:
    ROOM.tell()
    deadline = time.monotonic() + FLUSH_TIMEOUT_S
    while LINES.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _write(entry: dict[str, Any]) -> None:
    """If the log is full or nobody reads it, lines are lost; neither the server nor its shutdown is blocked."""
    line = json.dumps({name: _clean(value) for name, value in entry.items()}) + "\n"
    with suppress(queue.Full):
        LINES.put_nowait(line)


def _clean(value: object) -> object:
    """Truncates a text and replaces its control characters, except line breaks (in stack traces)."""
    if not isinstance(value, str):
        return value
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", value[:LONGEST_TEXT]) + ("…" if len(value) > LONGEST_TEXT else "")


def _tell_now_and_then() -> None:
    while True:
        time.sleep(TELL_EVERY_S)
        ROOM.tell()


def _write_lines() -> None:
    while True:
        with suppress(OSError):
            os.write(1, LINES.get().encode())
        LINES.task_done()
