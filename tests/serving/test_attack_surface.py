"""What another host can reach: predictions, and metrics if they were opened. No model management, and no files.

The other host is a network namespace with its own address, connected to the server's by a veth pair. Making one needs
root; the other tests need no privileges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports

pytestmark = [pytest.mark.usefixtures("one_worker"), pytest.mark.slow]

PREDICT = "/v1/models/alexnet:predict"
PATIENCE_S = 30
SERVER_ADDRESS, HOST_ADDRESS = "10.251.0.1", "10.251.0.2"

# Prints, for each port, whether connecting to it succeeds.
CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    with socket.socket() as probe:
        probe.settimeout(5)
        print(port, "open" if probe.connect_ex((sys.argv[1], int(port))) == 0 else "refused")
"""


def asked(
    server: TorchServe, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | str = b""
) -> tuple[int, bytes]:
    """Sends the path as it is: a client library would normalise it."""
    port = int(server.url.rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            connection.putheader(name, value)
        connection.endheaders(body.encode() if isinstance(body, str) else body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def worker_ids(server: TorchServe) -> set[int]:
    return {p.pid for p in server.processes() if any("model_service_worker" in word for word in p.cmdline())}


@pytest.fixture(scope="module")
def before(server: TorchServe) -> set[int]:
    return worker_ids(server)


# --- From another host ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_host() -> Iterator[list[str]]:
    """A prefix that runs a command on the other host. The server's own address is SERVER_ADDRESS."""
    name, veth, peer = (f"{kind}{os.getpid() % 100000}" for kind in ("host", "vs", "vh"))

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {getattr(error, 'stderr', error)}".strip())
    try:
        try:
            ip("link", "add", veth, "type", "veth", "peer", "name", peer, "netns", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no veth pair can be made here: {error.stderr.strip()}")
        ip("address", "add", f"{SERVER_ADDRESS}/30", "dev", veth)
        ip("link", "set", veth, "up")
        ip("-n", name, "address", "add", f"{HOST_ADDRESS}/30", "dev", peer)
        ip("-n", name, "link", "set", peer, "up")
        yield ["ip", "netns", "exec", name]
    finally:
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", veth)
        ip("netns", "del", name)


@pytest.fixture(scope="module", params=["as it comes", "with monitoring"])
def exposed(
    request: pytest.FixtureRequest, light_directory: Path, checkout: Path
) -> Iterator[tuple[TorchServe, Ports, set[str]]]:
    """A server that listens as config.properties says, like the pods but on other ports. And the ports it should open.

    With monitoring, TS_METRICS_ADDRESS is set as in kserve/components/monitoring-….
    """
    settings = dict(
        line.split("=", 1)
        for line in (checkout / "config.properties").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    ports = Ports.any_free()
    addresses = {
        f"TS_{name.upper()}_ADDRESS": f"{settings[f'{name}_address'].rpartition(':')[0]}:{getattr(ports, name)}"
        for name in ("inference", "management", "metrics")
    }
    opened = {"inference"}
    if request.param == "with monitoring":
        addresses["TS_METRICS_ADDRESS"] = f"http://0.0.0.0:{ports.metrics}"
        opened.add("metrics")
    with TorchServe(light_directory, MODEL_NAME, ports, environment=addresses) as running:
        yield running, ports, opened


def test_another_host_reaches_predictions_alone_and_metrics_where_they_were_opened(
    exposed: tuple[TorchServe, Ports, set[str]], other_host: list[str]
) -> None:
    _, ports, opened = exposed
    numbers = {name: str(getattr(ports, name)) for name in vars(ports)}
    command = [*other_host, sys.executable, "-c", CONNECT, SERVER_ADDRESS]
    done = subprocess.run([*command, *numbers.values()], check=True, capture_output=True, text=True, timeout=60)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert set(numbers) == {"inference", "metrics", "management", "grpc_inference", "grpc_management", "health"}
    assert {name for name, number in numbers.items() if found[number] == "open"} == opened


def test_every_listening_socket_is_one_of_those(exposed: tuple[TorchServe, Ports, set[str]]) -> None:
    """Including unexpected ones, such as a worker's."""
    server, ports, opened = exposed
    found = {
        connection.laddr.port
        for process in server.processes()
        for connection in process.connections("inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    }
    assert found == {getattr(ports, name) for name in opened}


# --- From the serving port --------------------------------------------------------------------------------------------

FOREIGN = "https://example.com/other.mar"
MANAGEMENT = [
    ("GET", "/models"),
    ("GET", "/models/alexnet"),
    ("GET", "/models/alexnet/all"),
    ("POST", "/models"),
    ("POST", f"/models?url={FOREIGN}&model_name=other&initial_workers=1"),
    ("POST", "/models?url=file:///etc/passwd&model_name=other"),
    ("POST", "/models?url=..%2F..%2Fother.mar"),
    ("PUT", "/models/alexnet?min_worker=0&max_worker=0&synchronous=true"),
    ("PUT", "/models/alexnet/1.0/set-default"),
    ("DELETE", "/models/alexnet"),
    ("DELETE", "/models/alexnet/1.0"),
    ("POST", "/workflows?url=https://example.com/other.war"),
    ("GET", "/workflows"),
    ("DELETE", "/workflows/alexnet"),
    ("GET", "/token?type=management"),
    ("PUT", "/v1/models/alexnet?min_worker=0"),
    ("DELETE", "/v1/models/alexnet"),
    ("POST", "/v2/repository/models/alexnet/unload"),
    ("GET", "/metrics"),
]
TRICKS = [
    {},
    {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"},
    {"X-Original-URL": "/models/alexnet", "X-Rewrite-URL": "/models/alexnet"},
    {"Host": "127.0.0.1:8081", "X-Forwarded-Host": "127.0.0.1:8081", "X-Forwarded-Port": "8081"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost:8081"},
    {"Authorization": "Bearer x", "token": "x"},
]


@pytest.mark.parametrize("headers", TRICKS, ids=lambda headers: ",".join(headers) or "plain")
@pytest.mark.parametrize(("method", "path"), MANAGEMENT)
def test_models_cannot_be_managed(
    server: TorchServe, before: set[int], method: str, path: str, headers: dict[str, str]
) -> None:
    status, body = asked(server, method, path, headers)
    assert status == (405 if path.startswith("/v1/models/alexnet") else 404), (status, body)
    assert list(json.loads(body)) == ["error"]
    assert b"minWorkers" not in body
    assert b"ts_inference" not in body
    assert worker_ids(server) == before


@pytest.mark.parametrize(
    "headers",
    [{"X-HTTP-Method-Override": "DELETE"}, {"X-Original-URL": "/models/alexnet"}, {"Upgrade": "h2c"}],
    ids=lambda headers: next(iter(headers)),
)
def test_headers_do_not_turn_a_harmless_request_into_another(
    server: TorchServe, before: set[int], headers: dict[str, str]
) -> None:
    plain = asked(server, "GET", "/v1/models")
    assert plain[0] == 200
    assert asked(server, "GET", "/v1/models", headers) == plain
    assert worker_ids(server) == before


FILES = [
    "/v1/models/../../etc/passwd",
    "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    "/v1/models/%2e%2e/%2e%2e/etc/passwd:predict",
    "/v1/models/%252e%252e%252fetc%252fpasswd:predict",
    "/v1/models/..\\..\\etc\\passwd:predict",
    "/v1/models/alexnet%00.mar:predict",
    "/v1/models//etc/passwd:predict",
    "/predictions/../../../etc/passwd",
    "/predictions/..%2f..%2fetc%2fpasswd",
    "/predictions/alexnet/..%2f..%2fconfig.properties",
    "/predictions/file:%2f%2f%2fetc%2fpasswd",
    "/../../../etc/passwd",
    "//etc/passwd",
    "/etc/passwd",
    "/config/config.properties",
    "/model-store/alexnet.mar",
    "/static/../../etc/passwd",
    "http://127.0.0.1:8081/models",
    "file:///etc/passwd",
    "/v1/models/alexnet:predict/../../../../etc/passwd",
    "/api-description/../../etc/passwd",
    "/explanations/..%2f..%2fetc%2fpasswd",
    "/v2/models/..%2f..%2fetc%2fpasswd/infer",
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", FILES)
def test_no_path_reaches_a_file(server: TorchServe, method: str, path: str) -> None:
    status, body = asked(server, method, path)
    assert status in (400, 404, 405), (status, body)
    assert list(json.loads(body)) == ["error"]
    for inside in (b"root:", b"inference_address", b"PK\x03\x04", b"java.nio", b"/tmp/"):
        assert inside not in body


@pytest.mark.parametrize("name", ["url", "model_path", "file", "X-File", "Content-Location", "Referer", "Range"])
def test_no_header_reaches_a_file(server: TorchServe, name: str) -> None:
    status, body = asked(server, "POST", PREDICT, {name: "file:///etc/passwd"}, b"{}")
    assert (status, b"root:" in body) == (400, False)


def test_instances_do_not_name_files(server: TorchServe) -> None:
    for instance in ('{"url": "file:///etc/passwd"}', '{"b64": "file:///etc/passwd"}', '{"data": "/etc/passwd"}'):
        status, body = asked(server, "POST", PREDICT, body=f'{{"instances": [{instance}]}}')
        assert status in (400, 403)
        assert b"root:" not in body


# --- From the machine itself, where management listens: the steps of ShellTorch ---------------------------------------


@pytest.fixture
def hostile_archive(tmp_path: Path) -> Path:
    """An archive with an entry that would be unpacked outside its folder."""
    archive = tmp_path / "hostile.mar"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "hostile", "handler": "handler.py"}}')
        written.writestr("../../../../../../../../tmp/shelltorch-was-here", "yes")
        written.writestr("handler.py", "open('/tmp/shelltorch-was-here', 'w')")
    return archive


@pytest.mark.parametrize("where", ["https", "http", "file", "name", "path"])
def test_nothing_is_registered_even_from_the_machine_itself(
    server: TorchServe, hostile_archive: Path, where: str, before: set[int]
) -> None:
    url = {
        "https": "https://example.com/hostile.mar",
        "http": "http://169.254.169.254/latest/hostile.mar",
        "file": hostile_archive.as_uri(),
        "name": "hostile.mar",
        "path": f"../../..{hostile_archive}",
    }[where]
    port = int(server.management_url.rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", f"/models?url={url}&initial_workers=1&synchronous=true")
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status in (403, 405), status
    assert not Path("/tmp/shelltorch-was-here").exists()
    assert worker_ids(server) == before
