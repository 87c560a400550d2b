"""Scripts, run and started as by a user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports, free_ports
from tests.support.temporary import Processes
from tests.support.waiting import PATIENCE_S

# The line with which a script failed, without its `error: `.
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


class Script(Protocol):
    """Runs scripts/NAME.sh to its end. `limits`: a shell command to run first, such as `ulimit`."""

    def __call__(
        self, name: str, *arguments: object, environment: Mapping[str, str] | None = None, limits: str = ":"
    ) -> subprocess.CompletedProcess[str]: ...


class Start(Protocol):
    """Starts scripts/NAME.sh, of this checkout or of another one."""

    def __call__(self, name: str, *arguments: object, of: Path | None = None) -> subprocess.Popen[str]: ...


@pytest.fixture
def user_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes output independent of requested colours and widths, and of proxies."""
    for name in ("FORCE_COLOR", "COLUMNS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def importable(checkout: Path) -> dict[str, str]:
    """The environment of a Python process that imports `pipeline`."""
    return os.environ | {"PYTHONPATH": str(checkout)}


@pytest.fixture
def script(checkout: Path, tmp_path: Path, user_environment: None) -> Script:
    """Runs a script from outside the checkout."""

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


@pytest.fixture
def start(checkout: Path, tmp_path: Path, user_environment: None, processes: Processes) -> Iterator[Start]:
    """Starts a script in the background, from outside the checkout. At the end, nothing of it is left running."""
    with ExitStack() as stack:

        def run(name: str, *arguments: object, of: Path | None = None) -> subprocess.Popen[str]:
            started = subprocess.Popen(
                [str((of or checkout) / "scripts" / f"{name}.sh"), *map(str, arguments)],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(started)  # waits for it and closes its pipes
            stack.callback(_stop, started)
            return started

        yield run
    assert processes() == []


@pytest.fixture
def port() -> int:
    """A free port that two more free ones follow."""
    while True:
        (port,) = free_ports(1)
        try:
            Ports.starting_at(port).check_free()
        except (PipelineError, OverflowError):
            continue
        return port


def _stop(started: subprocess.Popen[str]) -> None:
    """Asks it to stop, so that it stops its children; kills it if it does not."""
    started.terminate()
    try:
        started.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        started.kill()
        raise


@pytest.fixture(scope="session")
def only_error() -> OnlyError:
    def sentence(done: subprocess.CompletedProcess[str]) -> str:
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("error: ").rstrip("\n")

    return sentence
