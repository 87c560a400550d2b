"""The server's log: one JSON object per line, as kserve/runtime/server/log.py writes it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from typing import IO

# What TorchServe logs if an archive is damaged. It then runs without that model.
NOT_LOADED = "Failed to load model: "

EXCEPTION = re.compile(r"\b([a-z]\w*\.)+\w+(Exception|Error): ")  # Java's name of an exception, before its message
DOOR = "door"
ENDED = "TorchServe ended by itself"  # the cause is in the lines before
NAMES = {"envoy": "envoy", "serve": "server"}  # shown to the operator

Log = Callable[[str], None]


class ServerLog:
    """Keeps the last lines, and finds why the model is not loaded.

    model: the model's name, with which its handler begins each line for the operator.
    forward: called with each line for the operator; while the server starts, only with the handler's lines.
    """

    def __init__(self, model: str, forward: Log) -> None:
        self.model_error: str | None = None
        self.server_error: str | None = None
        self.starting = True
        self._model = model
        self._forward = forward
        self._last: deque[str] = deque(maxlen=20)
        self._in_traceback: set[str] = set()  # threads of workers that are printing a traceback

    def tail(self) -> str:
        return "\n".join(self._last)

    def read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._read_line(line.rstrip())

    def _read_line(self, line: str) -> None:
        try:
            entry = json.loads(line)
            level, logger, message = entry["severity"], entry["logger"], entry["message"]
        except (ValueError, LookupError, TypeError):  # printed by Python when the server cannot be started
            self._last.append(line)
            return
        if logger == "MODEL_LOG":
            self._read_worker(entry.get("thread", ""), message)
            return
        first, *_ = EXCEPTION.sub("", message).splitlines() or [""]
        if logger == "serve" and level == "ERROR" and not first.startswith(ENDED):
            self.server_error = first
        if logger == DOOR:  # about a request; good requests are logged only on demand
            self._forward(f"door: {first} ({entry.get('client')})")
            return
        self._last.append(f"{level} {logger} {first}")
        if first.startswith(NOT_LOADED):
            self.model_error = first.removeprefix(NOT_LOADED)
        if not self.starting and level in ("WARNING", "ERROR", "CRITICAL"):
            self._forward(f"{NAMES.get(logger, 'torchserve')}: {first}")

    def _read_worker(self, thread: str, message: str) -> None:
        self._last.append(message)
        if not self.starting or message.startswith(f"{self._model}: "):
            self._forward(message)
        if message.startswith("Traceback "):
            self._in_traceback.add(thread)
        elif thread in self._in_traceback and not message.startswith(" "):
            self._in_traceback.discard(thread)
            self.model_error = self.model_error or message
