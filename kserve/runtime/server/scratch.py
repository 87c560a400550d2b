"""A folder of our own for files that live as long as the server: sockets, settings, the unpacked archive.

A pod's /tmp outlives its containers, and a killed server removes nothing. So each server cleans up after dead ones.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "ts-"  # short: socket paths have at most 107 characters
LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """The folder, which is removed at the end. Raises OSError if none can be made."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        with suppress(OSError), open(left / LOCK, "rb") as lock:  # OSError: it has no such file, so it is not ours
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its server is alive
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with open(made / f".{LOCK}", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(lock.name, made / LOCK)  # so that nobody finds it unlocked
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
