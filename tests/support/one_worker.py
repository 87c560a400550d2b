"""A server with one worker, for tests in which a second one would only cost two seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# TorchServe's own name for it; 0 means one per processor.
ONE_WORKER = {"TS_DEFAULT_WORKERS_PER_MODEL": "1"}


@pytest.fixture(scope="module")
def one_worker() -> Iterator[None]:
    """For everything that a module's tests start: pytestmark = pytest.mark.usefixtures("one_worker")."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ONE_WORKER.items():
            patched.setenv(name, value)
        yield
