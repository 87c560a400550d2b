"""Files that are either complete or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def beside(target: Path) -> Path:
    """A hidden name in the same folder. Nobody can guess it, and so put a link there that leads to another file."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}")


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces `target` once the block has ended. It has the permissions of any new file.

    Raises OSError if it cannot be written. After that or any other error, `target` is unchanged.
    """
    part = beside(target)
    with open(part, "xb") as file:  # x: follows no link
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink()
            raise
