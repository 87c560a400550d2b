"""A status server on its Unix socket, with a model that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from server.background import in_background
from server.status import StatusServer
from tests.kserve.status.told import NAME, VERSION, Ask, Serve, ToldModel, ask_at


@pytest.fixture
def model() -> ToldModel:
    return ToldModel()


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def serve(temporary: Path, model: ToldModel, stopping: threading.Event) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(archive: Path | None = None) -> Path:
            path = temporary / "status.sock"
            server = StatusServer(path, NAME, VERSION, model, stopping, archive)
            stack.callback(server.server_close)
            stack.callback(in_background(server.serve_forever, 0.01).join)
            stack.callback(server.shutdown)
            return path

        yield start


@pytest.fixture
def status_socket(serve: Serve) -> Path:
    return serve()


@pytest.fixture
def ask(status_socket: Path) -> Ask:
    return partial(ask_at, status_socket)
