"""What stops a command.

PipelineError             one line that says what is wrong, where, and what to do
├── WeightsUnavailable    the ImageNet weights cannot be downloaded
├── NoServer              nothing answers at the URL
└── ProxyUnusable         the environment names a proxy that cannot be used
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PipelineError(Exception):
    """Shown to the user as it is, without a traceback; the command ends with exit status 1."""


class WeightsUnavailable(PipelineError):
    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class NoServer(PipelineError):
    pass


class ProxyUnusable(PipelineError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: {reason}")


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """An OSError from within names this file: while one is written, errors name none, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise
