"""Starting, watching and stopping TorchServe: it answers or says why not, and leaves nothing behind."""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import LONGEST_SCRATCH, TorchServe
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports

pytestmark = [pytest.mark.usefixtures("one_worker"), pytest.mark.slow]

Alive = Callable[[psutil.Process], bool]
Processes = Callable[[], list[psutil.Process]]


@pytest.fixture
def incomplete(tmp_path: Path, checkout: Path) -> Path:
    """A directory to serve, without the archive."""
    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    shutil.copy(checkout / "config.properties", tmp_path / "config")
    return tmp_path


def java_of(server: TorchServe) -> psutil.Process:
    (java,) = (process for process in server.processes() if process.name() == "java")
    return java


# --- A server that runs -----------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_text(server: TorchServe) -> None:
    answer = httpx.get(f"{server.metrics_url}/metrics", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert re.search(r"^ts_inference_requests_total\{.*\} \d", answer.text, re.MULTILINE)


def test_management_answers_that_the_model_is_ready(server: TorchServe) -> None:
    answer = httpx.get(f"{server.management_url}/v1/models/alexnet", trust_env=False)
    assert answer.json() == {"name": "alexnet", "ready": True}


def test_nothing_listens_beyond_loopback(server: TorchServe) -> None:
    listening = [
        connection.laddr
        for process in server.processes()
        for connection in process.connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 8  # Ports, and the socket behind the front door
    urls = (server.url, server.management_url, server.metrics_url)
    assert {urlsplit(url).port for url in urls} < {address.port for address in listening}
    for address in listening:
        ip = ipaddress.ip_address(address.ip)
        assert (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def test_leaving_stops_every_process_and_removes_every_file(
    light_directory: Path, temporary: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TS_INFERENCE_ADDRESS", "http://0.0.0.0:1")  # only scripts/serve.sh lets them through
    ports = Ports.any_free()
    log: list[str] = []
    with TorchServe(light_directory, MODEL_NAME, ports, log=log.append) as server:
        assert len(server.processes()) >= 4  # the server, Java, workers, Envoy
        assert set(server.processes()) == set(processes())
        assert any(temporary.rglob("*"))
        assert server.url == f"http://{LOOPBACK}:{ports.inference}"
    assert server.processes() == processes() == []
    assert list(temporary.iterdir()) == []
    ports.check_free()
    assert [line for line in log if not line.startswith("alexnet: precision=")] == []
    assert log != []


def test_wait_raises_when_the_server_dies_and_its_workers_are_stopped(
    light_directory: Path, temporary: Path, processes: Processes
) -> None:
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free()) as server:
        java_of(server).kill()
        with pytest.raises(PipelineError, match=r"^TorchServe ended by itself \(exit status \d+\); its last words:\n"):
            server.wait()
    assert processes() == []
    assert list(temporary.iterdir()) == []


# --- A server that does not start -------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_is_told_in_the_words_of_its_worker(
    incomplete: Path, handler_directory: Path, tiny: Path, temporary: Path, processes: Processes
) -> None:
    build_archive(handler_directory, tiny, MODEL_NAME, incomplete / "model-store" / "alexnet.mar")
    with pytest.raises(PipelineError) as refusal, TorchServe(incomplete, MODEL_NAME, Ports.any_free()):
        pass
    sentence = str(refusal.value)
    assert sentence.startswith("the model cannot be loaded: ValueError: program.json does not fit these ")
    assert "\n" not in sentence
    assert "java" not in sentence
    assert processes() == []
    assert list(temporary.iterdir()) == []


def test_a_damaged_archive_is_told_with_what_torchserve_found(
    incomplete: Path, handler_directory: Path, tiny: Path, temporary: Path, processes: Processes
) -> None:
    """TorchServe checks each entry's CRC while unpacking the archive; if one is wrong, it runs without a model."""
    archive = build_archive(handler_directory, tiny, MODEL_NAME, incomplete / "model-store" / "alexnet.mar").path
    archive.write_bytes(archive.read_bytes().replace(b"class Handler", b"class handler"))
    with pytest.raises(PipelineError) as refusal, TorchServe(incomplete, MODEL_NAME, Ports.any_free()):
        pass
    assert str(refusal.value).startswith("the model cannot be loaded: alexnet.mar invalid entry CRC (expected 0x")
    assert "\n" not in str(refusal.value)
    assert processes() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "program.json", "vision/errors.py"])
def test_an_archive_that_was_changed_is_refused_by_its_worker(
    incomplete: Path, light_directory: Path, temporary: Path, processes: Processes, name: str
) -> None:
    """Changes one byte and the CRC, so that TorchServe itself finds nothing wrong."""
    with (
        zipfile.ZipFile(light_directory / "model-store" / "alexnet.mar") as before,
        zipfile.ZipFile(incomplete / "model-store" / "alexnet.mar", "w") as after,
    ):
        for entry in before.infolist():
            content = before.read(entry)
            if entry.filename == name:
                is_text = name != "weights.safetensors"
                content = content + b"\n" if is_text else content[:-1] + bytes([content[-1] ^ 1])
            after.writestr(entry, content)
    with pytest.raises(PipelineError) as refusal, TorchServe(incomplete, MODEL_NAME, Ports.any_free()):
        pass
    assert str(refusal.value).startswith(f"the model cannot be loaded: ValueError: {name} is not what was packed")
    assert "\n" not in str(refusal.value)
    assert processes() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("TS_INFERENCE_ADDRESS", r"TorchServe did not start: .*nonsense[^\n]*"),  # the server's own message
        ("TS_JOB_QUEUE_SIZE", r'TorchServe did not start; its last words:\n.*\n.*For input string: "nonsense".*'),
    ],
)
def test_a_server_that_gives_up_is_told_with_the_reason(
    light_directory: Path, temporary: Path, processes: Processes, variable: str, said: str
) -> None:
    with (
        pytest.raises(PipelineError) as refusal,
        TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment={variable: "nonsense"}),
    ):
        pass
    assert re.fullmatch(said, str(refusal.value), re.DOTALL)
    assert processes() == []
    assert list(temporary.iterdir()) == []


def test_a_taken_port_is_named_before_anything_starts(
    light_directory: Path, temporary: Path, processes: Processes
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(PipelineError, match=rf"^port {port} \(for inference\) is taken by pid \d+ \("),
            TorchServe(light_directory, MODEL_NAME, Ports.starting_at(port)),
        ):
            pass
    assert processes() == []
    assert list(temporary.iterdir()) == []


def test_a_tmpdir_that_is_too_long_for_sockets_is_told_with_what_to_do(
    light_directory: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with (
        pytest.raises(PipelineError, match=f"^{long} is too long a path for TorchServe's sockets: .* TMPDIR=/tmp$"),
        TorchServe(light_directory, MODEL_NAME, Ports.any_free()),
    ):
        pass
    assert list(long.iterdir()) == []


def test_sockets_fit_into_the_longest_folder_that_is_taken(temporary: Path) -> None:
    folder = temporary / ("x" * (LONGEST_SCRATCH - len(str(temporary)) - 1))
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / ".ts.sock.99999"))


def without_config(directory: Path) -> Path:
    (directory / "config" / "config.properties").unlink()
    return directory / "config" / "config.properties"


def without_archive(directory: Path) -> Path:
    return directory / "model-store"


def with_variables_off(directory: Path, line: str) -> Path:
    config = directory / "config" / "config.properties"
    config.write_text(config.read_text().replace("enable_envvars_config=true", line))
    with zipfile.ZipFile(directory / "model-store" / "alexnet.mar", "w"):
        pass
    return config


def without_variables(directory: Path) -> Path:
    return with_variables_off(directory, "")


def with_variables_commented_out(directory: Path) -> Path:
    return with_variables_off(directory, "# enable_envvars_config=true")


def with_a_damaged_archive(directory: Path) -> Path:
    archive = directory / "model-store" / "alexnet.mar"
    archive.write_bytes(b"half a download")
    return archive


@pytest.mark.parametrize(
    "spoil",
    [without_config, without_archive, with_a_damaged_archive, without_variables, with_variables_commented_out],
)
def test_a_directory_that_cannot_be_served_is_told_with_the_file_in_question(
    incomplete: Path, spoil: Callable[[Path], Path], temporary: Path, processes: Processes
) -> None:
    file = spoil(incomplete)
    with pytest.raises(PipelineError) as refusal, TorchServe(incomplete, MODEL_NAME, Ports.any_free()):
        pass
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert processes() == []
    assert list(temporary.iterdir()) == []
