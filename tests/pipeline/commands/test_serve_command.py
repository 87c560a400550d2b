"""scripts/serve.sh as a user runs it: it says where to ask, and ends with a signal, leaving nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.artefact.version import ARCHIVE, CONFIG, Version
from pipeline.serving.torchserve import has_envoy
from tests.support.scripts import Start

Processes = Callable[[], list[psutil.Process]]
Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def another_checkout(checkout: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which the archive is built; in this one it may be, or not."""
    made = tmp_path / "another"
    for folder in ("scripts", "pipeline", "models", "kserve/runtime", "docs/photographs"):
        shutil.copytree(checkout / folder, made / folder)
    shutil.copy(checkout / "config.properties", made)
    (made / ".venv").symlink_to(checkout / ".venv")
    (made / "model-store").mkdir()
    (made / "model-store" / "alexnet.mar").symlink_to(directory / "model-store" / "alexnet.mar")
    monkeypatch.setenv("PYTHONPATH", str(made))
    return made


def ready(serving: subprocess.Popen[str]) -> tuple[str, str]:
    """The two lines that it prints when it is ready."""
    assert serving.stdout is not None
    lines = serving.stdout.readline(), serving.stdout.readline()
    assert all(lines), serving.communicate(timeout=60)
    return lines


def stopped(serving: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Ends it with a signal, and with another one once it is stopping: its exit status, and its last line on stderr."""
    assert serving.stderr is not None
    serving.send_signal(number)
    line = serving.stderr.readline()
    while line and "stopping" not in line:
        line = serving.stderr.readline()
    serving.send_signal(number)
    _, rest = serving.communicate(timeout=60)
    said = [late for late in rest.splitlines(keepends=True) if not late.startswith("alexnet: ")]  # the second worker
    return serving.returncode, line + "".join(said)


def test_it_serves_a_directory_until_interrupted(
    start: Start, directory: Path, port: int, tmp_path: Path, processes: Processes, temporary: Path
) -> None:
    serving = start("serve", directory, "--port", port)
    line, command = ready(serving)
    url = f"http://127.0.0.1:{port}/v1/models/alexnet:predict"
    assert re.fullmatch(rf"ready after \d+\.\d s: {url} \(Ctrl-C stops\)\n", line)
    assert url in command
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    answer = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)["predictions"][0]["classes"]) == 5
    assert stopped(serving, signal.SIGINT) == (0, "TorchServe is stopping …\n")
    assert processes() == []
    assert list(temporary.iterdir()) == []


def test_without_a_source_it_serves_its_checkout_until_terminated(
    start: Start, another_checkout: Path, port: int, processes: Processes, temporary: Path
) -> None:
    serving = start("serve", "--port", port, of=another_checkout)
    _, command = ready(serving)
    assert f"@{Path('another/docs/photographs')}" in command
    if has_envoy():  # the front door has the pages that say so
        told = httpx.get(f"http://127.0.0.1:{port}/v2/models/alexnet", trust_env=False).json()
        files = {CONFIG: another_checkout / "config.properties", ARCHIVE: another_checkout / ARCHIVE}
        version = Version.of(files)
        assert told["versions"] == [version.name]
    assert stopped(serving, signal.SIGTERM) == (0, "TorchServe is stopping …\n")
    assert processes() == []
    assert list(temporary.iterdir()) == []


def test_without_a_source_the_signature_is_looked_for_beside_the_archive(
    start: Start, another_checkout: Path, tmp_path: Path, port: int
) -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "key.pub").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    refused = start("serve", "--port", port, "--public-key", tmp_path / "key.pub", of=another_checkout)
    out, err = refused.communicate(timeout=60)
    assert (refused.returncode, out) == (1, "")
    signature = another_checkout / "model-store" / "alexnet.mar.sig"
    assert err.startswith(f"error: no signature at {signature}, and a public key is set: ")


@pytest.mark.parametrize(
    "moment", ["a temporary file", "server", "org.pytorch.serve.ModelServer", "--use-dynamic-base-id"]
)
def test_a_signal_during_start_up_leaves_nothing(
    moment: str, start: Start, directory: Path, port: int, processes: Processes, temporary: Path, eventually: Any
) -> None:
    """As soon as there is something to leave behind: a file, the server, Java, Envoy."""

    def has_come() -> bool:
        if moment == "a temporary file":
            return any(temporary.iterdir())
        return any(moment in arguments(process) for process in processes())

    serving = start("serve", directory, "--port", port)
    eventually(has_come)
    serving.send_signal(signal.SIGTERM)
    out, err = serving.communicate(timeout=60)
    assert (serving.returncode, out) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in err
    assert processes() == []
    assert list(temporary.iterdir()) == []


def arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_taken_port_is_told_in_one_line(script: Script, only_error: OnlyError, directory: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port + 1)):
        sentence = only_error(script("serve", directory, "--port", port))
    assert sentence.startswith(f"port {port + 1} (for management) is taken: ")


def test_a_directory_without_an_archive_is_told_in_one_line(
    script: Script, only_error: OnlyError, checkout: Path, tmp_path: Path, port: int
) -> None:
    (tmp_path / "config").mkdir()
    shutil.copy(checkout / "config.properties", tmp_path / "config")
    sentence = only_error(script("serve", tmp_path, "--port", port))
    assert sentence.startswith(f"no archive at {tmp_path / 'model-store' / 'alexnet.mar'}: ")


@pytest.mark.parametrize("wrong", [["--port", "0"], ["--port", "65534"], ["--port", "http"], ["a", "b"]])
def test_wrong_usage_has_exit_status_2(script: Script, wrong: list[str]) -> None:
    done = script("serve", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scripts/serve.sh" in done.stderr
    assert "Traceback" not in done.stderr
