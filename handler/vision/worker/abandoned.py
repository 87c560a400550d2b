"""Requests that nobody waits for any more. TorchServe keeps what it has of a client that has left, and would have it
computed while others wait: so the front door writes down whose clients have left, and a worker looks before it begins.
"""

from __future__ import annotations

import os
from collections import deque

# The variable by which kserve/runtime/server names the file; without that server there is none, and nobody has left.
VARIABLE = "ABANDONED_REQUESTS"
# Keys that are remembered: many times as many as TorchServe's queue has requests (job_queue_size).
REMEMBERED = 4096


class Abandoned:
    """Their keys, as the front door gives them to each request, a line each. Before `look` there are none."""

    def __init__(self) -> None:
        self._path = os.environ.get(VARIABLE, "")
        self._read = 0  # bytes
        self._keys: deque[str] = deque(maxlen=REMEMBERED)
        self._known: frozenset[str] = frozenset()

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def look(self) -> None:
        """Reads what has come. A file that became shorter has begun anew."""
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
