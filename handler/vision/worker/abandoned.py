"""Requests that nobody waits for any more. TorchServe keeps the requests of clients that have left, and would compute
them while others wait. So the front door lists them in a file, which a worker reads before it begins a batch.
"""

from __future__ import annotations

import os
from collections import deque

# The variable in which kserve/runtime/server names the file. Without that server, no request counts as abandoned.
VARIABLE = "ABANDONED_REQUESTS"
# Keys to remember: many times the length of TorchServe's queue (job_queue_size).
REMEMBERED = 4096


class Abandoned:
    """Their keys, one per line, as assigned by the front door. Empty until `look` is called."""

    def __init__(self) -> None:
        self._path = os.environ.get(VARIABLE, "")
        self._read = 0  # bytes
        self._keys: deque[str] = deque(maxlen=REMEMBERED)
        self._known: frozenset[str] = frozenset()

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def look(self) -> None:
        """Reads new lines. A file that has become shorter is read from its start."""
        try:
            size = os.stat(self._path).st_size
            if size == self._read:
                return
            with open(self._path, "rb") as file:
                file.seek(self._read if size > self._read else 0)
                lines, _, begun = file.read().rpartition(b"\n")
                self._read = file.tell() - len(begun)
        except OSError:
            return
        self._keys.extend(lines.decode("ascii", "replace").splitlines())
        self._known = frozenset(self._keys)
