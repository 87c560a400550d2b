"""Shared by the door's tests: servers, and clients that keep calling during an attack."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.shared.ports import free_ports
from server.door import find_envoy, settings
from server.folder import Address
from tests.door.recorder import Recorder, StatusRecorder
from tests.door.wire import Wire
from tests.support.waiting import Eventually

ARRIVES_WITHIN_S = 2
VERSION = "1.2"


@dataclass(frozen=True)
class Recorded:
    """The front door in front of servers that record requests."""

    port: int
    folder: Path
    torchserve: Recorder
    status: StatusRecorder


@pytest.fixture(scope="module")
def recorded(eventually: Eventually) -> Iterator[Recorded]:
    with before_recorders(eventually) as made:
        yield made


@contextmanager
def before_recorders(eventually: Eventually) -> Iterator[Recorded]:
    envoy = find_envoy()
    if envoy is None:
        pytest.skip("Envoy is not here")
    (port,) = free_ports(1)
    with (
        tempfile.TemporaryDirectory(prefix="door-", dir="/tmp") as name,  # short: it contains sockets
        Recorder() as torchserve,
        StatusRecorder(f"{name}/status.sock") as status,
        open(f"{name}/log", "w") as log,
    ):
        file = Path(name, "envoy.yaml")
        with pytest.MonkeyPatch.context() as patched:  # only here: other fixtures start servers
            patched.setenv("REQUEST_TIMEOUT_S", str(ARRIVES_WITHIN_S))
            file.write_text(settings(Path(name), ("alexnet", VERSION), Address("127.0.0.1", port), torchserve.port))
        command = [str(envoy), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        command += ["--file-flush-interval-msec", "100"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            eventually(lambda: listens(port))
            yield Recorded(port, Path(name), torchserve, status)
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    try:
        Wire(port).close()
    except ConnectionError:
        return False
    return True
