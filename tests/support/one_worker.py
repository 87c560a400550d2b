"""A server with one worker, where a second would only take its two seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# TorchServe's own name for it; 0 is one for each processor.
ONE_WORKER = {"TS_DEFAULT_WORKERS_PER_MODEL": "1"}


@pytest.fixture(scope="module")
def one_worker() -> Iterator[None]:
    """For all that the tests of a module start: pytestmark = pytest.mark.usefixtures("one_worker")."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ONE_WORKER.items():
            patched.setenv(name, value)
        yield
