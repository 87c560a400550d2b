"""What the tests of pipeline/ share: scripts run as a user runs them, a website on loopback, a folder for TMPDIR."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline.ports import free_ports
from pipeline.weights import Weights

PATIENCE_S = 60
Page = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="session")
def tiny() -> Weights:
    """Weights for tests in which only the way into an archive matters: no server can load them."""
    return Weights("tiny", {"a": np.ones(3, np.float32)})


@pytest.fixture
def handler_directory(checkout: Path, tmp_path: Path) -> Path:
    """A copy of handler/ that a test may change."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(checkout / "handler", tmp_path / "handler", ignore=ignored))


@pytest.fixture
def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a condition holds, and returns its value."""

    def wait(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, "what this test waits for did not come"
            time.sleep(0.01)
        return value

    return wait


@pytest.fixture
def importable(checkout: Path) -> dict[str, str]:
    """The environment of a Python process that imports `pipeline`."""
    return os.environ | {"PYTHONPATH": str(checkout)}


# --- Scripts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def user_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What scripts print depends neither on colours and widths that were asked for, nor on a proxy."""
    for name in ("FORCE_COLOR", "COLUMNS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def script(checkout: Path, tmp_path: Path, user_environment: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs scripts/NAME.sh, from another folder than the checkout."""

    def run(
        name: str, *arguments: object, environment: Mapping[str, str] | None = None, limits: str = ":"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", f'{limits}; exec "$0" "$@"', checkout / "scripts" / f"{name}.sh", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    return run


@pytest.fixture(scope="session")
def only_error() -> Callable[[subprocess.CompletedProcess[str]], str]:
    """The one line with which a script failed, without its `error: `."""

    def sentence(done: subprocess.CompletedProcess[str]) -> str:
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("error: ").rstrip("\n")

    return sentence


# --- Temporary files and processes ------------------------------------------------------------------------------------


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that temporary files go to, in this process and in what it starts. Its path is short: sockets."""
    made = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", str(made))  # the standard library's own way to say so
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def alive() -> Callable[[psutil.Process], bool]:
    def is_alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return is_alive


@pytest.fixture
def processes(temporary: Path, alive: Callable[[psutil.Process], bool]) -> Callable[[], list[psutil.Process]]:
    """All processes that were started with `temporary`, or a folder in it, as their TMPDIR."""

    def find() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _told(process, temporary) and alive(process)]

    return find


def _told(process: psutil.Process, temporary: Path) -> bool:
    try:
        return Path(process.environ().get("TMPDIR", "/")).is_relative_to(temporary)
    except (psutil.Error, OSError):  # gone, or of another user
        return False


# --- A website --------------------------------------------------------------------------------------------------------


class Website(ThreadingHTTPServer):
    """A server on loopback. `pages`: how each path is answered; `asked`: the paths that clients asked for."""

    daemon_threads = False  # server_close() waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """A page that is always the same. Returns its URL."""

        def page(visit: BaseHTTPRequestHandler) -> None:
            visit.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                visit.send_header(name, value)
            visit.end_headers()
            visit.wfile.write(body)

        self.pages[path] = page
        return self.url + path


class _Visit(BaseHTTPRequestHandler):
    server: Website

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.pages[self.path](self)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website(user_environment: None) -> Iterator[Website]:
    with Website() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()
