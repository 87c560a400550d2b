"""The embedded Cloud Storage: there while it is asked for, for this machine alone, and gone without a trace."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from google.cloud import storage

from pipeline.shared.errors import PipelineError
from pipeline.store import embedded_storage
from pipeline.store.embedded_storage import EmbeddedStorage

pytestmark = pytest.mark.slow

Processes = Callable[[], list[psutil.Process]]


def names_of_buckets(url: str) -> list[str]:
    with httpx.Client(trust_env=False) as http:
        return [bucket["name"] for bucket in http.get(f"{url}/storage/v1/b").raise_for_status().json()["items"]]


def round_trip(bucket: str) -> bytes:
    blob = storage.Client().bucket(bucket).blob("folder/object")
    blob.upload_from_string(b"content")
    return bytes(blob.download_as_bytes())


def test_googles_libraries_take_it_for_cloud_storage(user_environment: None) -> None:
    with EmbeddedStorage("some-bucket") as running:
        assert names_of_buckets(running.url) == ["some-bucket"]
        assert round_trip("some-bucket") == b"content"


def test_it_listens_on_loopback_alone(processes: Processes) -> None:
    with EmbeddedStorage("bucket"):
        (process,) = processes()
        addresses = {opened.laddr.ip for opened in process.connections() if opened.status == psutil.CONN_LISTEN}
        assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_of_it_stays(failing: bool, processes: Processes, temporary: Path) -> None:
    try:
        with EmbeddedStorage("bucket") as running:
            assert len(processes()) == 1
            if failing:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert failing
    assert processes() == []
    assert list(temporary.iterdir()) == []
    with pytest.raises(httpx.TransportError):
        names_of_buckets(running.url)


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"NO_PROXY": "example.com"},
        {"no_proxy": "", "NO_PROXY": "a,b"},
        {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"},
    ],
)
def test_the_environment_is_restored(before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    environment = dict(os.environ)
    with EmbeddedStorage("bucket") as running:
        assert os.environ["STORAGE_EMULATOR_HOST"] == running.url
        for name in ("NO_PROXY", "no_proxy"):
            assert os.environ[name].split(",")[-1] == "127.0.0.1"
            assert os.environ[name].startswith(before.get(name, ""))
    assert dict(os.environ) == environment


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked(
    name: str, user_environment: None, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    with EmbeddedStorage("bucket"):
        assert round_trip("bucket") == b"content"


def test_two_of_them_do_not_know_each_other(user_environment: None) -> None:
    with EmbeddedStorage("outer-one") as outer, EmbeddedStorage("inner-one") as inner:
        assert names_of_buckets(outer.url) == ["outer-one"]
        assert names_of_buckets(inner.url) == ["inner-one"]


def test_what_keeps_it_from_starting_is_told(
    processes: Processes, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is taken, between the moment when it was found to be free and the one when it is used."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("pipeline.store.embedded_storage.free_ports", lambda _: [taken.getsockname()[1]])
        environment = dict(os.environ)
        with pytest.raises(PipelineError, match=r"the embedded Cloud Storage did not start: .*address already in use"):
            EmbeddedStorage("bucket").__enter__()
    assert processes() == []
    assert list(temporary.iterdir()) == []
    assert dict(os.environ) == environment


# --- Signals ----------------------------------------------------------------------------------------------------------

HOLD = """
import signal
from pipeline import __main__
from pipeline.store import embedded_storage
from pipeline.store.embedded_storage import EmbeddedStorage

def hold() -> None:
    print("starting", flush=True)
    BEFORE
    with EmbeddedStorage("bucket"):
        print("started", flush=True)
        signal.pause()

__main__.run(hold, [])
"""


@pytest.mark.parametrize("moment", ["starting", "started"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_the_command(
    number: signal.Signals, moment: str, importable: dict[str, str], processes: Processes, temporary: Path
) -> None:
    environment = importable | {"TMPDIR": str(temporary)}
    command = [sys.executable, "-P", "-c", HOLD.replace("BEFORE", "")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdout is not None
        while holding.stdout.readline() != f"{moment}\n":
            assert holding.poll() is None
        holding.send_signal(number)
        holding.communicate(timeout=60)
    assert holding.returncode == 128 + number
    assert processes() == []
    assert list(temporary.iterdir()) == []


AT_THE_FORK = """
import os, signal, sys

def profile(frame, event, function):
    if event == "c_return" and function.__name__ == "fork_exec":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_while_its_process_is_being_made_leaves_no_process(
    importable: dict[str, str], processes: Processes, temporary: Path
) -> None:
    environment = importable | {"TMPDIR": str(temporary)}
    command = [sys.executable, "-P", "-c", AT_THE_FORK + HOLD.replace("BEFORE", "sys.setprofile(profile)")]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    try:
        assert done.returncode == 128 + signal.SIGTERM
        assert processes() == []
    finally:
        for process in processes():
            process.kill()


# --- Its program ------------------------------------------------------------------------------------------------------


def packaged(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package with another program for this machine."""
    name = embedded_storage._program().name
    program = folder / embedded_storage.PACKAGE / embedded_storage.PLACE / name
    program.parent.mkdir(parents=True)
    (folder / embedded_storage.PACKAGE / "__init__.py").touch()
    program.write_bytes(content)
    monkeypatch.delitem(sys.modules, embedded_storage.PACKAGE, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return program


def test_another_program_than_the_one_that_is_known_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = packaged(tmp_path, b"#!/bin/sh\ntouch ran\n", monkeypatch)
    program.chmod(0o755)
    with pytest.raises(PipelineError) as refused, EmbeddedStorage("bucket"):
        pass
    assert str(refused.value) == f"{program} is not the program that was looked at: run make setup again"


@pytest.mark.parametrize("gone", ["the machine", "the package"])
def test_where_the_package_has_none_one_of_the_users_own_is_taken(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = embedded_storage._program()
    if gone == "the machine":
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    else:
        monkeypatch.setattr(embedded_storage, "PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError) as refused, EmbeddedStorage("bucket"):
        pass
    said = f"there is no embedded Cloud Storage for this machine ({platform.system().lower()}, {platform.machine()}): "
    assert str(refused.value) == f"{said}install fake-gcs-server, so that it is in PATH"
    (tmp_path / "fake-gcs-server").symlink_to(known)
    with EmbeddedStorage("bucket") as running:
        assert names_of_buckets(running.url) == ["bucket"]
