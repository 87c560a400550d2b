"""What TorchServe and its workers print, in the form that log4j2.xml gives it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import IO

# What TorchServe logs where an archive is damaged. Then it runs without that model.
NOT_LOADED = "Failed to load model: "

Log = Callable[[str], None]


class ServerLog:
    """Keeps the end of what is printed, and finds why the model is not loaded.

    model: the name of the model, with which its handler begins a line for the operator.
    forward: called with each line for the operator: while the server starts, those of the handler alone.
    """

    def __init__(self, model: str, forward: Log) -> None:
        self.model_error: str | None = None
        self.starting = True
        self._model = model
        self._forward = forward
        self._last: deque[str] = deque(maxlen=20)
        self._in_traceback: set[str] = set()  # threads of the workers that are printing one

    def tail(self) -> str:
        return "\n".join(self._last)

    def read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._read_line(line.rstrip())

    def _read_line(self, line: str) -> None:
        level, _, rest = line.partition(" ")
        thread, _, rest = rest.partition(" ")
        logger, _, message = rest.partition(" ")
        if logger == "MODEL_LOG":
            self._read_worker(thread, message)
            return
        self._last.append(line)
        if message.startswith(NOT_LOADED):
            self.model_error = message.removeprefix(NOT_LOADED)
        if not self.starting and level in ("WARN", "ERROR"):
            self._forward(f"torchserve: {message}")

    def _read_worker(self, thread: str, message: str) -> None:
        self._last.append(message)
        if not self.starting or message.startswith(f"{self._model}: "):
            self._forward(message)
        if message.startswith("Traceback "):
            self._in_traceback.add(thread)
        elif thread in self._in_traceback and not message.startswith(" "):
            self._in_traceback.discard(thread)
            self.model_error = self.model_error or message
