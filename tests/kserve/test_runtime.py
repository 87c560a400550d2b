"""The image, the ServingRuntime and the server's settings say the same."""

from __future__ import annotations

import importlib.util
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ts.model_server import load_properties

PATIENCE_S = 30
MEBIBYTES = {"m": 1, "g": 1024}
# Measured with 100 of the largest requests at once, in a control group: docs/reliability.md. One that nobody asks has
# 430 MB.
LOADED_WORKER_MEBIBYTES = 1000
JVM_MEBIBYTES = 250  # beside heap and direct memory


@pytest.fixture(scope="module")
def runtime(checkout: Path) -> dict[str, Any]:
    return yaml.safe_load((checkout / "kserve" / "runtime" / "serving-runtime.yaml").read_text())


@pytest.fixture(scope="module")
def container(runtime: dict[str, Any]) -> dict[str, Any]:
    (only,) = runtime["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def instructions(checkout: Path) -> Callable[[str], list[str]]:
    """Those of the Dockerfile that have a name, without it, continued lines joined."""
    text = (checkout / "kserve" / "runtime" / "Dockerfile").read_text().replace("\\\n", " ")

    def named(name: str) -> list[str]:
        return [" ".join(line.split()) for line in re.findall(rf"^{name} (.*)$", text, re.MULTILINE)]

    return named


@pytest.fixture(scope="module")
def serve(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", checkout / "kserve" / "runtime" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def properties(checkout: Path) -> dict[str, str]:
    return load_properties(str(checkout / "config.properties"))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_the_ports_are_those_of_the_server(
    container: dict[str, Any],
    runtime: dict[str, Any],
    properties: dict[str, str],
    serve: ModuleType,
    instructions: Callable[[str], list[str]],
) -> None:
    inference, metrics = (port_of(properties[f"{name}_address"]) for name in ("inference", "metrics"))
    assert [port["containerPort"] for port in container["ports"]] == [inference]
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == str(metrics)
    assert instructions("EXPOSE") == [f"{inference} {metrics} {serve.HEALTH_PORT}"]
    assert properties["management_address"].startswith("http://127.0.0.1:")


def test_the_probes_ask_what_is_answered(container: dict[str, Any], serve: ModuleType) -> None:
    for name, path in (("startupProbe", "/startup"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")):
        probe = container[name]
        assert probe["httpGet"] == {"path": path, "port": serve.HEALTH_PORT}
        assert f'"{path}"' in Path(serve.__file__).read_text()


def test_a_full_queue_is_asked_again_soon(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a pod that is busy for minutes would hardly ever get its question in, and be taken for dead."""
    monkeypatch.setattr(serve, "ASK_EVERY_S", 3600)
    monkeypatch.setattr(serve, "ASK_AGAIN_S", 0)
    statuses, asked = iter([200, 503, 507, None, 200]), []
    model = serve.Model(0)

    def ask() -> int | None:
        asked.append(next(statuses))  # at the end it raises StopIteration
        return asked[-1]

    def pause(seconds: float) -> None:
        if seconds == 3600 and len(asked) == 5:
            raise InterruptedError
        pauses.append(seconds)

    pauses: list[float] = []
    monkeypatch.setattr(model, "_ask", ask)
    monkeypatch.setattr(serve.time, "sleep", pause)
    with pytest.raises(InterruptedError):
        model.ask_now_and_then()
    assert pauses == [3600, 0, 0, 0]


@pytest.fixture
def health(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of what answers the probes of a model that is well. It lets a silent client stay for long."""
    model = serve.Model(0)
    model._answered_at = time.monotonic()
    monkeypatch.setattr(serve.Health, "model", model, raising=False)
    monkeypatch.setattr(serve.Health, "stopping", threading.Event(), raising=False)
    monkeypatch.setattr(serve.Health, "timeout", 10 * PATIENCE_S)
    server = serve.HealthServer(("127.0.0.1", 0), serve.Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_probe_gets_in_whoever_holds_connections_open(serve: ModuleType, health: tuple[str, int]) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(health, PATIENCE_S))
            for _ in range(3 * serve.HEALTH_CONNECTIONS)
        ]
        for path in ("/startup", "/ready", "/live"):
            connection = stack.enter_context(closing(HTTPConnection(*health, timeout=PATIENCE_S)))
            connection.request("GET", path)
            assert connection.getresponse().status == 200
        for one in silent[: 2 * serve.HEALTH_CONNECTIONS]:
            assert one.recv(1) == b"", "the oldest make room"


def test_a_client_that_breaks_off_is_not_a_line_in_the_log(
    health: tuple[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(health, PATIENCE_S) as client:
        client.sendall(b"GET /re")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST rather than FIN
    with closing(HTTPConnection(*health, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/ready")
        assert connection.getresponse().status == 200
    assert capfd.readouterr() == ("", "")


def test_a_silent_worker_is_replaced_before_the_pod_is(serve: ModuleType, checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    assert serve.READY_WITHIN_S < settings["responseTimeout"] < serve.ANSWER_TIMEOUT_S < serve.LIVE_WITHIN_S


def test_it_is_the_user_of_the_image(container: dict[str, Any], instructions: Callable[[str], list[str]]) -> None:
    context = container["securityContext"]
    assert instructions("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert context["runAsUser"] > 0


def test_it_writes_where_a_volume_is(
    container: dict[str, Any], runtime: dict[str, Any], instructions: Callable[[str], list[str]]
) -> None:
    (mount,) = container["volumeMounts"]
    (volume,) = runtime["spec"]["volumes"]
    assert (mount["name"], volume["emptyDir"]["sizeLimit"]) == (volume["name"], "1Gi")
    assert f"TMPDIR={mount['mountPath']} " in instructions("ENV")[-1]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_memory_is_enough_for_a_worker_on_each_processor(
    container: dict[str, Any], properties: dict[str, str]
) -> None:
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"]["memory"] == limits["memory"]
    bounds = re.findall(r"(?:-Xmx|MaxDirectMemorySize=)(\d+)([mg])", properties["vmargs"])
    assert len(bounds) == 2
    java = sum(int(size) * MEBIBYTES[unit] for size, unit in bounds)
    workers = int(limits["cpu"]) * LOADED_WORKER_MEBIBYTES
    assert java + JVM_MEBIBYTES + workers < int(limits["memory"].removesuffix("Gi")) * 1024


def test_everything_is_pinned(
    checkout: Path, container: dict[str, Any], instructions: Callable[[str], list[str]]
) -> None:
    (base,) = [text for text in instructions("ARG") if text.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    assert {image.split()[0] for image in instructions("FROM")} == {"${BASE}"}
    name, version = container["image"].split(":")
    (labels,) = instructions("LABEL")
    assert f'org.opencontainers.image.title="{name}"' in labels
    assert f'org.opencontainers.image.version="{version}"' in labels
    assert base.removeprefix("BASE=") in labels
    build = yaml.safe_load((checkout / "kserve" / "runtime" / "cloudbuild.yaml").read_text())
    assert build["substitutions"]["_IMAGE"].endswith(f"/{container['image']}")


def test_what_the_image_copies_is_there_and_reaches_the_build(
    checkout: Path, instructions: Callable[[str], list[str]]
) -> None:
    kept = [line[1:] for line in (checkout / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [text.split()[:-1] for text in instructions("COPY") if not text.startswith("--from")]
    files = [file for group in copied for file in group]
    assert len(files) == 4
    for file in files:
        assert (checkout / file).is_file()
        assert any(file == name or file.startswith(name) for name in kept), file


def test_torch_is_the_one_that_the_tests_ran_with(checkout: Path) -> None:
    """The image takes it by its line among the constraints."""
    constraints = (checkout / "requirements" / "constraints.txt").read_text()
    (pinned,) = re.findall(r"^torch==.*$", constraints, re.MULTILINE)
    assert pinned in (checkout / "requirements" / "runtime.txt").read_text()
