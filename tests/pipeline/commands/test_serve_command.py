"""scripts/serve.sh as a user runs it: it prints its URL, and ends with a signal, leaving nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
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

pytestmark = pytest.mark.usefixtures("one_worker")

Processes = Callable[[], list[psutil.Process]]
Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def another_checkout(checkout: Path, light_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a built archive; this one may have none."""
    made = tmp_path / "another"
    for folder in ("scripts", "pipeline", "models", "kserve/runtime", "docs/photographs"):
        shutil.copytree(checkout / folder, made / folder)
    shutil.copy(checkout / "config.properties", made)
    (made / ".venv").symlink_to(checkout / ".venv")
    (made / "model-store").mkdir()
    (made / "model-store" / "alexnet.mar").symlink_to(light_directory / "model-store" / "alexnet.mar")
    monkeypatch.setenv("PYTHONPATH", str(made))
    return made


def ready(serving: subprocess.Popen[str]) -> tuple[str, str]:
    """The two lines that it prints when it is ready."""
    assert serving.stdout is not None
    lines = serving.stdout.readline(), serving.stdout.readline()
    assert all(lines), serving.communicate(timeout=60)
    return lines


def stopped(serving: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Sends a signal, and another one once it is stopping. → its exit status, and its last line on stderr."""
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
    start: Start, light_directory: Path, port: int, tmp_path: Path, processes: Processes, temporary: Path
) -> None:
    serving = start("serve", light_directory, "--port", port)
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
    if has_envoy():  # only the front door has these pages
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
    moment: str, start: Start, light_directory: Path, port: int, processes: Processes, temporary: Path, eventually: Any
) -> None:
    """As soon as it could leave something behind: a file, the server, Java, Envoy."""

    def has_come() -> bool:
        if moment == "a temporary file":
            return any(temporary.iterdir())
        return any(moment in arguments(process) for process in processes())

    serving = start("serve", light_directory, "--port", port)
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


def test_a_taken_port_is_told_in_one_line(
    script: Script, only_error: OnlyError, light_directory: Path, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port + 1)):
        sentence = only_error(script("serve", light_directory, "--port", port))
    assert sentence.startswith(f"port {port + 1} (for management) is taken by pid ")


def test_whoever_has_the_port_is_told(script: Script, only_error: OnlyError, light_directory: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        sentence = only_error(script("serve", light_directory, "--port", port))
    assert sentence == (
        f"port {port} (for inference) is taken by pid {os.getpid()} ({psutil.Process().name()}): "
        "stop what uses it, or choose another with --port"
    )


def test_of_two_at_once_one_serves_and_the_other_says_why_in_a_line(
    start: Start, light_directory: Path, port: int
) -> None:
    """Neither finds the port taken when it checks."""
    both = [start("serve", light_directory, "--port", port) for _ in range(2)]
    ended: list[subprocess.Popen[str]] = []
    while not ended:
        ended = [serving for serving in both if serving.poll() is not None]
        time.sleep(0.05)
    (refused,) = ended
    (serving,) = [one for one in both if one is not refused]
    ready(serving)
    out, err = refused.communicate(timeout=60)
    assert (refused.returncode, out) == (1, "")
    (line,) = [said for said in err.splitlines() if said.startswith("error: ")]
    assert err.endswith(f"{line}\n")
    assert re.match(rf"error: port \d+ \(for \w+\) is taken by pid {serving.pid} \(scripts/serve\.sh\): ", line)
    assert stopped(serving, signal.SIGTERM)[0] == 0


def test_without_an_archive_the_path_is_that_of_the_checkout(
    start: Start, another_checkout: Path, port: int, temporary: Path
) -> None:
    archive = another_checkout / "model-store" / "alexnet.mar"
    archive.unlink()
    refused = start("serve", "--port", port, of=another_checkout)
    out, err = refused.communicate(timeout=60)
    assert (refused.returncode, out) == (1, "")
    assert err == f"error: no archive in {archive.parent}: build one with scripts/package.sh, or give FILE\n"
    archive.write_bytes(b"half an archive")
    refused = start("serve", "--port", port, of=another_checkout)
    _, err = refused.communicate(timeout=60)
    assert err.startswith(f"error: {archive} is not an archive, or is incomplete: ")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_path_with_umlauts_is_served_in_any_locale(
    locale: str, start: Start, light_directory: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Bücher und 猫"
    folder.symlink_to(light_directory)
    monkeypatch.setenv("LC_ALL", locale)
    serving = start("serve", folder, "--port", port)
    assert "ready after" in ready(serving)[0]
    assert stopped(serving, signal.SIGTERM) == (0, "TorchServe is stopping …\n")


# --- TS_* variables ---------------------------------------------------------------------------------------------------


def settings_of(port: int) -> dict[str, str]:
    """The arguments of TorchServe's Java."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if process.name() == "java" and f":{port + 1}" in environment.get("TS_MANAGEMENT_ADDRESS", ""):
                return environment
    raise AssertionError("no such TorchServe")


def test_variables_reach_torchserve_but_for_those_that_would_move_it(
    start: Start, light_directory: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TS_JOB_QUEUE_SIZE", "7")
    monkeypatch.setenv("TS_DISABLE_SYSTEM_METRICS", "false")
    kept = {
        "TS_INFERENCE_ADDRESS": "http://0.0.0.0:1",
        "TS_MANAGEMENT_ADDRESS": "http://0.0.0.0:2",
        "TS_METRICS_ADDRESS": "http://0.0.0.0:3",
        "TS_GRPC_INFERENCE_ADDRESS": "0.0.0.0",
        "TS_GRPC_INFERENCE_PORT": "4",
        "TS_CONFIG_FILE": "/gone",
        "TS_MODEL_STORE": "/gone",
        "TS_LOAD_MODELS": "other.mar",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    serving = start("serve", light_directory, "--port", port)
    ready(serving)
    environment = settings_of(port)
    assert (environment["TS_JOB_QUEUE_SIZE"], environment["TS_DISABLE_SYSTEM_METRICS"]) == ("7", "false")
    assert [name for name, value in kept.items() if environment.get(name) == value] == []
    assert serving.stderr is not None
    serving.send_signal(signal.SIGTERM)
    _, said = serving.communicate(timeout=60)
    assert [name for name in kept if f"{name} is ignored here: " not in said] == []


def test_an_envelope_is_refused_as_in_the_pod(
    script: Script, only_error: OnlyError, light_directory: Path, port: int, checkout: Path
) -> None:
    done = script("serve", light_directory, "--port", port, environment={"TS_SERVICE_ENVELOPE": "kserve"})
    sentence = only_error(done)
    assert sentence == "TS_SERVICE_ENVELOPE is set: the handler reads KServe's bodies itself; unset it"
    assert sentence in (checkout / "kserve" / "runtime" / "server" / "__main__.py").read_text()


def test_a_directory_without_an_archive_is_told_in_one_line(
    script: Script, only_error: OnlyError, checkout: Path, tmp_path: Path, port: int
) -> None:
    (tmp_path / "config").mkdir()
    shutil.copy(checkout / "config.properties", tmp_path / "config")
    sentence = only_error(script("serve", tmp_path, "--port", port))
    assert sentence.startswith(f"no archive at {tmp_path / 'model-store'}: ")


@pytest.mark.parametrize("wrong", [["--port", "0"], ["--port", "65534"], ["--port", "http"], ["a", "b"]])
def test_wrong_usage_has_exit_status_2(script: Script, wrong: list[str]) -> None:
    done = script("serve", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scripts/serve.sh" in done.stderr
    assert "Traceback" not in done.stderr
