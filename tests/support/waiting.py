"""Waiting, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import pytest

PATIENCE_S = 60
Value = TypeVar("Value")


class Eventually(Protocol):
    """Waits until a condition holds, and returns its value."""

    def __call__(self, condition: Callable[[], Value]) -> Value: ...


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    def wait(condition: Callable[[], Value]) -> Value:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, "what this test waits for did not come"
            time.sleep(0.01)
        return value

    return wait
