"""The container's start command, run for real: as a process, with the image's arguments and environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.signature import KeylessSigner, Signer
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE
from pipeline.serving.java import java_home
from pipeline.serving.question import QUESTION
from pipeline.shared.ports import free_ports
from server.drain import connections
from tests.support.one_worker import ONE_WORKER
from tests.support.sigstore_server import PROVIDER, WORKFLOW, sigstore_server

PATIENCE_S = 60
CLIENTS = 16
IMAGE = "registry.example/alexnet-torchserve@sha256:" + "0" * 64

# A read-only root, except TMPDIR. Everything else on the machine stays the same.
READ_ONLY = 'mount -t tmpfs tmpfs "$TMPDIR" && mount -o remount,ro,bind / && exec "$@"'


class Container:
    """One process of the start command. `lines` is what it has logged."""

    def __init__(self, checkout: Path, models: Path, scratch: Path, environment: dict[str, str], before: list[str]):
        ports = free_ports(6)
        self.port, self.health_port = ports[0], ports[5]
        dockerfile = (checkout / "kserve" / "runtime" / "Dockerfile").read_text()
        (entry_point,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
        interpreter, *arguments = json.loads(entry_point)
        assert interpreter == "python"
        variables = re.findall(r"^ENV (.*)$", dockerfile, re.M)[-1]
        settings = dict(pair.split("=", 1) for pair in shlex.split(variables))
        addresses = dict(zip(("INFERENCE", "MANAGEMENT", "METRICS"), ports, strict=False))
        self.process = subprocess.Popen(
            [*before, sys.executable, *arguments, str(models)],
            cwd="/",
            env=settings
            | {"PYTHONPATH": str(checkout / "kserve" / "runtime")}  # in the image a .pth file adds it to the path
            | {"PATH": os.environ["PATH"], "JAVA_HOME": str(java_home()), "TMPDIR": str(scratch), "HOME": str(scratch)}
            | {f"TS_{name}_ADDRESS": f"http://127.0.0.1:{port}" for name, port in addresses.items()}
            | {"TS_GRPC_INFERENCE_PORT": str(ports[3]), "TS_GRPC_MANAGEMENT_PORT": str(ports[4])}
            | {"HEALTH_PORT": str(self.health_port), "DRAIN_AT_LEAST_S": "1"}
            | ONE_WORKER
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self.lines.extend(output)

    def probe(self, path: str) -> int | None:
        return self._get(self.health_port, path)

    @staticmethod
    def _get(port: int, path: str) -> int | None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, HTTPException):
                return None

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)

    def wait_until_started(self) -> None:
        self.wait_until(lambda: self.probe("/startup") == 200 or self.process.poll() is not None)
        assert self.process.poll() is None, "".join(self.lines)

    def stopped(self) -> int:
        """Waits until it and everything it started have ended: its exit status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)  # the pipe ends with the last process that holds it
        assert not self._reader.is_alive()
        return status

    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.lines]

    def kill(self) -> None:
        family = [self.process.pid, *(child.pid for child in self.children())]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


Start = Callable[..., Container]


@pytest.fixture(scope="module")
def start(checkout: Path, light_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(models: Path = light_directory, before: tuple[str, ...] = (), **environment: str) -> Container:
            scratch = Path("/tmp") / f"t-{os.getpid()}-{time.monotonic_ns()}"  # short: sockets
            scratch.mkdir()
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            made = Container(checkout, models, scratch, environment, list(before))
            stack.callback(made.kill)
            return made

        yield run


class Load:
    """Clients that send one request after the other, until they are told to leave.

    obedient: each leaves for good after an answer with `Connection: close`, like a client whose next connection the
    Service routes to another pod. `told_to_close` counts these answers.
    """

    def __init__(self, port: int, keep_alive: bool, obedient: bool = False) -> None:
        self.outcomes: Counter[object] = Counter()
        self.told_to_close = 0
        self._port = port
        self._keep_alive = keep_alive
        self._obedient = obedient
        self._leave = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def total(self) -> int:
        with self._lock:
            return self.outcomes.total()

    def leave(self) -> None:
        self._leave.set()
        self.join()

    def join(self) -> None:
        """Waits until all have left."""
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        while not self._leave.is_set():
            told_to_close = False
            try:
                connection.request("POST", "/v1/models/alexnet:predict", json.dumps(QUESTION))
                response = connection.getresponse()
                response.read()
                outcome: object = response.status
                told_to_close = response.getheader("Connection", "").lower() == "close"
            except (OSError, HTTPException) as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] += 1
                self.told_to_close += told_to_close
            if self._obedient and (told_to_close or outcome != 200):
                break
            if not self._keep_alive or outcome != 200:
                connection.close()
        connection.close()


@pytest.fixture(scope="module")
def running(start: Start) -> Container:
    """A shared one for tests that only send requests."""
    made = start(SERVING_IMAGE=IMAGE)
    assert made.probe("/startup") in (None, 503)  # the model is not loaded yet
    made.wait_until_started()
    return made


def test_the_probes_are_true_when_the_model_answers(running: Container) -> None:
    assert [running.probe(path) for path in ("/startup", "/ready", "/live")] == [200, 200, 200]


def test_it_reports_its_image(running: Container) -> None:
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/")
        assert json.loads(connection.getresponse().read())["image"] == IMAGE


def test_the_probes_port_answers_nothing_else(running: Container) -> None:
    assert [running.probe(path) for path in ("/", "/metrics", "/v1/models/alexnet")] == [404, 404, 404]


def test_every_line_of_the_log_is_an_object(running: Container) -> None:
    running.wait_until(lambda: any("precision=" in line for line in running.lines))
    for line in list(running.lines):
        entry = json.loads(line)
        assert entry["severity"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        assert entry.keys() >= {"time", "logger", "message"}


@pytest.mark.parametrize("keep_alive", [True, False])
def test_no_request_is_lost_when_it_is_asked_to_end(start: Start, keep_alive: bool) -> None:
    """As in a roll-out: the signal arrives under load, and the clients leave a little later."""
    container = start()
    container.wait_until_started()
    load = Load(container.port, keep_alive)
    container.wait_until(lambda: load.total() > 200)
    container.process.send_signal(signal.SIGTERM)
    container.wait_until(lambda: container.probe("/ready") == 503)
    assert container.probe("/live") == 200
    before = load.total()
    container.wait_until(lambda: load.total() > before + 200)
    load.leave()
    assert load.outcomes.keys() == {200}
    assert container.stopped() == 0


def test_with_little_time_clients_leave_because_each_answer_closes_its_connection(start: Start) -> None:
    """As on a spot node. Nobody tells them to leave: they would go on, and be cut off at the end."""
    container = start(DRAIN_AT_LEAST_S="1", DRAIN_AT_MOST_S="4")
    container.wait_until_started()
    load = Load(container.port, keep_alive=True, obedient=True)
    container.wait_until(lambda: load.total() > 200)
    assert load.told_to_close == 0
    container.process.send_signal(signal.SIGTERM)
    load.join()
    assert load.outcomes.keys() == {200}
    assert load.told_to_close == CLIENTS
    assert container.stopped() == 0
    assert not any("still connected" in message for message in container.messages())


def test_torchserve_that_dies_while_clients_leave_is_reported(start: Start) -> None:
    container = start(DRAIN_AT_LEAST_S="30")
    container.wait_until_started()
    container.process.send_signal(signal.SIGTERM)
    container.wait_until(lambda: container.probe("/ready") == 503)
    (java,) = [child for child in container.children() if "java" in child.name()]
    java.kill()
    assert container.stopped() == 128 + signal.SIGKILL
    assert container.messages()[-1] == "TorchServe ended by itself, with exit status -9"


def test_the_door_that_dies_while_clients_leave_is_started_again_and_sends_them_away(start: Start) -> None:
    container = start(DRAIN_AT_LEAST_S="5")
    container.wait_until_started()
    container.process.send_signal(signal.SIGTERM)
    container.wait_until(lambda: container.probe("/ready") == 503)
    (envoy,) = [child for child in container.children() if child.name() == "envoy"]
    envoy.kill()

    def told_to_leave() -> bool:
        connection = HTTPConnection("127.0.0.1", container.port, timeout=PATIENCE_S)
        with suppress(OSError, HTTPException), closing(connection):
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            return answer.status == 200 and answer.headers["Connection"] == "close"
        return False

    container.wait_until(told_to_leave)
    assert container.stopped() == 0


def test_a_port_in_use_is_reported_and_not_shared(start: Start, running: Container) -> None:
    container = start(TS_INFERENCE_ADDRESS=f"http://127.0.0.1:{running.port}")
    assert container.stopped() == 1
    assert container.messages()[-1].startswith("Envoy ended while starting, with exit status 1")
    assert any("Address already in use" in message for message in container.messages())
    assert running.probe("/ready") == 200


def test_the_next_server_removes_what_a_killed_one_left(start: Start, tmp_path: Path) -> None:
    """As with a killed container: the pod's /tmp outlives it."""
    shared = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    try:
        first = start(TMPDIR=str(shared))
        first.wait_until_started()
        first.kill()
        (left,) = shared.glob("ts-*")
        second = start(TMPDIR=str(shared))
        second.wait_until_started()
        assert not left.exists()
        second.process.terminate()
        assert second.stopped() == 0
        assert list(shared.glob("ts-*")) == []
    finally:
        shutil.rmtree(shared)


def test_a_model_that_falls_silent_is_not_ready_and_then_not_alive(start: Start) -> None:
    container = start(READY_WITHIN_S="6", LIVE_WITHIN_S="12")
    container.wait_until_started()
    workers = [child for child in container.children() if "model_service_worker" in " ".join(child.cmdline())]
    assert workers
    for worker in workers:
        worker.suspend()
    container.wait_until(lambda: container.probe("/ready") == 503)
    assert container.probe("/live") == 200
    container.wait_until(lambda: container.probe("/live") == 503)
    for worker in workers:
        worker.resume()
    container.wait_until(lambda: container.probe("/ready") == container.probe("/live") == 200)


def test_output_that_is_not_text_does_no_harm(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text("#!/bin/sh\nprintf 'a \\377 byte\\n'\necho and more\nexit 3\n")
    (tmp_path / "bin" / "java").chmod(0o755)
    container = start(JAVA_HOME=str(tmp_path))
    assert container.stopped() == 3
    assert container.messages()[:2] == ["a \ufffd byte", "and more"]


def test_a_log_that_nobody_reads_stops_neither_it_nor_its_end(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(reader, bytes(4096))
        container = start(before=("sh", "-c", f'exec "$@" >{shlex.quote(str(log))}', "sh"))
        container.wait_until_started()
        container.process.terminate()
        assert container.stopped() == 0
    finally:
        os.close(reader)


def test_it_does_not_wait_for_ever_for_clients(start: Start) -> None:
    container = start(DRAIN_AT_MOST_S="1")
    container.wait_until_started()
    with closing(HTTPConnection("127.0.0.1", container.port)) as client:
        client.connect()
        container.process.send_signal(signal.SIGTERM)
        assert container.stopped() == 0
    assert any("1 clients are still connected after 1 s" in message for message in container.messages())


def test_there_is_a_worker_for_each_cpu_of_the_limit(start: Start) -> None:
    """The JVM reads the limit from its cgroup; here it is given."""
    container = start(JAVA_TOOL_OPTIONS="-XX:ActiveProcessorCount=3", TS_DEFAULT_WORKERS_PER_MODEL="0")
    container.wait_until(lambda: sum("precision=" in line for line in container.lines) == 3)
    assert sum("Torch worker started" in message for message in container.messages()) == 3


def test_it_ends_with_torchserve(start: Start) -> None:
    container = start()
    container.wait_until_started()
    (java,) = [child for child in container.children() if "java" in child.name()]
    java.kill()
    assert container.stopped() != 0
    assert container.messages()[-1].startswith("TorchServe ended by itself")


def test_a_model_that_cannot_be_loaded_never_counts_as_started(
    start: Start, light_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(light_directory, tmp_path / "models")
    archive = tmp_path / "models" / "model-store" / "alexnet.mar"
    archive.write_bytes(archive.read_bytes().replace(b"class Handler", b"class handler"))
    container = start(tmp_path / "models")
    container.wait_until(lambda: "Model server started." in "".join(container.lines))
    assert [container.probe(path) for path in ("/startup", "/ready", "/live")] == [503, 503, 503]
    assert any("invalid entry CRC" in message for message in container.messages())


def test_without_a_model_it_says_so_and_ends(start: Start, tmp_path: Path) -> None:
    container = start(tmp_path)
    assert container.stopped() == 1
    (message,) = container.messages()
    assert message.startswith(f"{tmp_path}/config/config.properties: No such file or directory: ")


@pytest.fixture
def signed(light_directory: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder with content that a key has signed, and the public key's file."""
    key, public_key, models = tmp_path / "key.pem", tmp_path / "key.pub", tmp_path / "signed"
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_key.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for name in (CONFIG, ARCHIVE):
        (models / name).parent.mkdir(parents=True)
        shutil.copy(light_directory / name, models / name)
    Signer(key).sign({name: models / name for name in (CONFIG, ARCHIVE)}, models / SIGNATURE)
    return models, public_key


def test_signed_content_is_served(start: Start, signed: tuple[Path, Path]) -> None:
    models, public_key = signed
    container = start(models, ALEXNET_PUBLIC_KEY=str(public_key))
    container.wait_until_started()
    assert container.probe("/ready") == 200


def change_the_archive(models: Path) -> str:
    with (models / ARCHIVE).open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    return f"{models / ARCHIVE} is not what was signed ({models / SIGNATURE})"


def change_the_configuration(models: Path) -> str:
    with (models / CONFIG).open("a") as file:
        file.write("enable_model_api=true\n")
    return f"{models / CONFIG} is not what was signed ({models / SIGNATURE})"


def remove_the_signature(models: Path) -> str:
    (models / SIGNATURE).unlink()
    return f"{models / SIGNATURE} is missing: publish what scripts/package.sh --sign made"


@pytest.mark.parametrize("change", [change_the_archive, change_the_configuration, remove_the_signature])
def test_what_it_has_not_signed_is_told_in_one_line_and_not_served(
    start: Start, signed: tuple[Path, Path], change: Callable[[Path], str]
) -> None:
    models, public_key = signed
    fault = change(models)
    container = start(models, ALEXNET_PUBLIC_KEY=str(public_key), JAVA_HOME="/none")  # which it never gets to use
    assert container.stopped() == 1
    assert container.messages() == [f"{fault}: TorchServe is not started, since ALEXNET_PUBLIC_KEY is set"]


def test_what_an_identity_has_signed_is_served_and_what_another_has_is_not(
    start: Start, signed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = signed
    with sigstore_server() as sigstore, monkeypatch.context() as patched:
        trust_root, config = sigstore.write(tmp_path)
        for name, value in sigstore.of_the_workflow().items():
            patched.setenv(name, value)
        KeylessSigner(config).sign({name: models / name for name in (CONFIG, ARCHIVE)}, models / SIGNATURE)
    trusted = {"ALEXNET_IDENTITY_PROVIDER": PROVIDER, "ALEXNET_TRUST_ROOT": str(trust_root)}
    container = start(models, ALEXNET_IDENTITY=WORKFLOW, **trusted)
    container.wait_until_started()
    assert container.probe("/ready") == 200
    container = start(models, ALEXNET_IDENTITY="somebody@example.org", JAVA_HOME="/none", **trusted)
    assert container.stopped() == 1
    (message,) = container.messages()
    assert message.startswith(f"{models / SIGNATURE} is not a signature by somebody@example.org of {PROVIDER} (")
    assert message.endswith(": TorchServe is not started, since ALEXNET_IDENTITY is set")


@pytest.mark.parametrize("public_key", ["/none/key.pub", "", "/"])
def test_with_a_missing_public_key_nothing_is_served(start: Start, public_key: str) -> None:
    container = start(ALEXNET_PUBLIC_KEY=public_key, JAVA_HOME="/none")
    assert container.stopped() == 1
    (message,) = container.messages()
    assert message.startswith(f"{Path(public_key)} cannot be read (")


def test_without_a_port_for_the_probes_it_says_so_and_starts_nothing(start: Start) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        container = start(HEALTH_PORT=str(port))
        assert container.stopped() == 1
    assert container.messages() == [
        f"cannot listen on port {port} (Address already in use): set HEALTH_PORT to another"
    ]


def test_without_java_it_says_so_and_ends(start: Start, tmp_path: Path) -> None:
    container = start(JAVA_HOME=str(tmp_path))
    assert container.stopped() == 1
    assert container.messages() == [
        f"{tmp_path}/bin/java: No such file or directory: Java cannot be started, set JAVA_HOME"
    ]


def test_it_writes_nowhere_but_into_tmp(start: Start) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a read-only root")
    container = start(before=("unshare", "--mount", "sh", "-c", READ_ONLY, "sh"))
    container.wait_until_started()
    container.process.send_signal(signal.SIGTERM)
    assert container.stopped() == 0


def test_clients_are_counted_where_the_kernel_knows_no_ipv6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.drain.TCP_TABLES", (Path("/proc/net/tcp"), tmp_path / "tcp6"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address = listening.getsockname()
        assert connections(address[1]) == 0
        with socket.create_connection(address), listening.accept()[0]:
            assert connections(address[1]) == 1  # the server's end; the client's has another port
