"""The server's status follows the model, and everything else is refused in our format."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis.strategies import from_regex

from server.door import STATUS
from server.errors import NotServed
from server.health import LIVE_WITHIN_S, READY_WITHIN_S
from server.model import ASK_EVERY_S
from server.status import StatusServer, listener
from tests.kserve.status.told import NAME, VERSION, Ask, ToldModel
from tests.support.waiting import Eventually

SERVICE = {
    "name": NAME,
    "version": VERSION,
    "status": "alive",
    "ready": True,
    "links": {
        "predict": f"/v1/models/{NAME}:predict",
        "explain": f"/v1/models/{NAME}:explain",
        "infer": f"/v2/models/{NAME}/infer",
        "models": "/v1/models",
        "openapi": "/openapi.json",
        "docs": "/docs",
    },
}
WHEN_READY: dict[str, object] = {
    "/": SERVICE,
    "/v1/models": {"models": [NAME]},
    f"/v1/models/{NAME}": {"name": NAME, "ready": True},
    "/v2": {"name": NAME, "version": VERSION, "extensions": ["binary_tensor_data"]},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    f"/v2/models/{NAME}": {
        "name": NAME,
        "versions": [VERSION],
        "platform": "pytorch",
        "inputs": [{"name": "images", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1, -1]},
            {"name": "index", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "probability", "datatype": "FP32", "shape": [-1, -1]},
        ],
    },
    f"/v2/models/{NAME}/ready": {"name": NAME, "ready": True},
}
PATHS = [*WHEN_READY, "/openapi.json", "/docs"]
READY_PATHS = [f"/v1/models/{NAME}", "/v2/health/ready", f"/v2/models/{NAME}/ready"]
THROUGH_THE_DOOR = STATUS.replace("{name}", NAME).replace("{version}", "").replace(r"\\.", r"\.")  # as read by YAML
LONG_LINE = b"A" * 70_000


@pytest.mark.parametrize("path", WHEN_READY)
def test_a_ready_model(ask: Ask, path: str) -> None:
    told = ask(path)
    assert (told.status, json.loads(told.content)) == (200, WHEN_READY[path])
    assert told.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_nobody_keeps_an_answer_or_takes_it_for_something_else(ask: Ask, path: str) -> None:
    told = ask(path)
    assert (told.headers["Cache-Control"], told.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "Server" not in told.headers


def states(ask: Ask) -> dict[str, object]:
    """What each path says about the model: the status, and for / the content of its body."""
    service = json.loads(ask("/").content)
    return {
        "status": service["status"],
        "ready": service["ready"],
        "live": ask("/v2/health/live").status,
        **{path: ask(path).status for path in READY_PATHS},
    }


def expected(status: str, ready: bool) -> dict[str, object]:
    return {
        "status": status,
        "ready": ready,
        "live": 200 if status == "alive" else 503,
        **dict.fromkeys(READY_PATHS, 200 if ready else 503),
    }


@pytest.mark.parametrize(
    ("silent_s", "status", "ready"),
    [
        (None, "alive", False),  # still loading
        (0, "alive", True),
        (READY_WITHIN_S - 1, "alive", True),
        (READY_WITHIN_S + 1, "alive", False),
        (LIVE_WITHIN_S - 1, "alive", False),
        (LIVE_WITHIN_S + 1, "dead", False),
    ],
)
def test_it_is_as_alive_and_as_ready_as_its_model(
    ask: Ask, model: ToldModel, silent_s: float | None, status: str, ready: bool
) -> None:
    model.silent_s = silent_s
    assert states(ask) == expected(status, ready)


def test_a_model_that_never_came_is_dead_in_the_end(
    ask: Ask, model: ToldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.silent_s = None
    monkeypatch.setattr("server.status.answers.LIVE_WITHIN_S", 0)
    assert states(ask) == expected("dead", False)


def test_a_server_that_is_about_to_end_is_alive_and_not_ready(ask: Ask, stopping: threading.Event) -> None:
    stopping.set()
    assert states(ask) == expected("alive", False)
    assert json.loads(ask("/v2/health/ready").content) == {"error": "server: not ready: the server is shutting down"}


@pytest.mark.parametrize(
    ("path", "silent_s", "message"),
    [
        (f"/v1/models/{NAME}", None, "model: not ready: it is still loading"),
        (f"/v2/models/{NAME}/ready", LIVE_WITHIN_S, "model: not ready: the model does not answer"),
        ("/v2/health/ready", READY_WITHIN_S, "server: not ready: the model does not answer"),
        ("/v2/health/live", LIVE_WITHIN_S, "server: not live: the model does not answer"),
    ],
)
def test_what_is_not_so_is_503_with_the_time_to_ask_again(
    ask: Ask, model: ToldModel, path: str, silent_s: float | None, message: str
) -> None:
    model.silent_s = silent_s
    told = ask(path)
    assert (told.status, told.headers["Retry-After"]) == (503, str(ASK_EVERY_S))
    assert json.loads(told.content) == {"error": message}
    assert told.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_a_query_means_nothing(ask: Ask, path: str) -> None:
    assert ask(f"{path}?a=b&c").content == ask(path).content


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(ask: Ask, path: str) -> None:
    got, told = ask(path), ask(path, "HEAD")
    assert (told.status, told.headers.items(), told.content) == (200, got.headers.items(), b"")
    assert int(got.headers["Content-Length"]) == len(got.content) > 0


@pytest.mark.parametrize("path", PATHS)
def test_the_door_lets_it_through(path: str) -> None:
    assert re.fullmatch(THROUGH_THE_DOOR, path)


@given(path=from_regex(THROUGH_THE_DOOR, fullmatch=True))
def test_the_door_lets_nothing_else_through(path: str) -> None:
    assert path in PATHS


@pytest.mark.parametrize(
    "path",
    [
        *("//", "/docs/", "/DOCS", "/v1", "/v1/models/", "/v1/models/other", f"/v1/models/{NAME}/", "/v2/models"),
        *("/v2/models/other/ready", f"/v1/models/{NAME}:predict", f"/v1/models/{NAME}%3Apredict", "/%76%31/models"),
        *(
            "/v1/../docs",
            "/ready",
            "/metrics",
            "/favicon.ico",
            "*",
            "http://example.org/docs",
            "/docs#there",
            "/docs;a",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_there(ask: Ask, method: str, path: str) -> None:
    told = ask(path, method)
    assert (told.status, json.loads(told.content)) == (404, {"error": "path: there is nothing here, see /docs"})
    assert told.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "get", "X-Y"])
def test_other_methods_are_not_allowed(ask: Ask, method: str, path: str) -> None:
    told = ask(path, method)
    assert (told.status, told.headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(told.content) == {"error": "method: only GET and HEAD are allowed"}


def raw(path: Path, request: bytes) -> bytes:
    """Sends any bytes, and reads to the end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/9.9 SECRET\r\n\r\n", 400),
        (b"GET / SECRET\r\n\r\n", 400),
        (b"SECRET\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nSECRET: SECRET\r\n\r\n", 505),
        (b"GET /" + LONG_LINE + b"SECRET HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nSECRET: " + LONG_LINE + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"SECRET: a\r\n" * 200 + b"\r\n", 431),
        (b"SECRET /docs HTTP/1.1\r\n\r\n", 405),
        (b"GET /SECRET HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_a_refusal_holds_nothing_of_the_clients(status_socket: Path, request_bytes: bytes, status: int) -> None:
    answer = raw(status_socket, request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 %d " % status)
    assert re.fullmatch(rb'\{"error": "[a-z]+: [^"]+"\}', body)
    assert b"SECRET" not in answer


def test_what_follows_a_request_is_no_other(status_socket: Path) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\n\r\n"
    for request in (
        b"GET /v2/health/live HTTP/1.1\r\nConnection: keep-alive\r\n\r\n" + smuggled,
        b"GET /v2/health/live HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled,
        b"POST /v2/health/live HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled,
    ):
        answer = raw(status_socket, request)
        assert answer.count(b"HTTP/1.0 ") == 1
        assert b"models" not in answer


def test_of_clients_that_say_nothing_only_so_many_are_held(
    status_socket: Path, eventually: Eventually, ask: Ask
) -> None:
    def held() -> int:
        return sum("process_request_thread" in thread.name for thread in threading.enumerate())

    with ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(listener.CONNECTIONS + 8)]
        for client in silent:
            client.connect(str(status_socket))
        eventually(lambda: held() == listener.CONNECTIONS)
        for client in silent:
            client.close()
        assert ask("/v2/health/live").status == 200
    eventually(lambda: held() == 0)


def test_nobody_else_of_the_machine_gets_at_the_socket(status_socket: Path) -> None:
    assert stat.S_IMODE(os.stat(status_socket).st_mode) == 0o600


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("taken", "Address already in use"),
        ("none/status.sock", "No such file or directory"),
        ("a" * 200, "path too long"),
    ],
)
def test_a_socket_that_cannot_be_made_is_told_in_one_line(
    temporary: Path, model: ToldModel, stopping: threading.Event, place: str, reason: str
) -> None:
    (temporary / "taken").touch()
    with pytest.raises(NotServed, match=reason) as told:
        StatusServer(temporary / place, NAME, VERSION, model, stopping)
    assert "\n" not in str(told.value)


def test_the_image_is_told_where_it_is_known(temporary: Path, model: ToldModel, stopping: threading.Event) -> None:
    image = "registry.example/alexnet-torchserve:1@sha256:" + "0" * 64
    server = StatusServer(temporary / "s", NAME, VERSION, model, stopping, image=image)
    try:
        told = json.loads(server.answers.get("/").body)
        assert told == SERVICE | {"image": image}
        document = json.loads(server.answers.get("/openapi.json").body)
        jsonschema_rs.validate({"$ref": "#/components/schemas/Service", **document}, told)
        assert "image" not in document["components"]["schemas"]["Service"]["required"]
    finally:
        server.server_close()


def test_a_model_without_a_version(temporary: Path, model: ToldModel, stopping: threading.Event) -> None:
    server = StatusServer(temporary / "s", NAME, "", model, stopping)
    try:
        assert json.loads(server.answers.get("/v2").body)["version"] == ""
        assert json.loads(server.answers.get(f"/v2/models/{NAME}").body)["versions"] == []
        assert json.loads(server.answers.get("/openapi.json").body)["info"]["version"] == "unknown"
    finally:
        server.server_close()
