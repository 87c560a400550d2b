"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def beside(target: Path) -> Path:
    """A hidden name in the same folder, which nobody can guess who would lead to another file from there."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}")


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `target` once the block has ended; it may be read as any new file may.

    Raises OSError where it cannot be written; after that, and after any other error, what was there before is there.
    """
    part = beside(target)
    with open(part, "xb") as file:  # x: it follows no link
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink()
            raise
