"""What the tests of pipeline/ share: scripts run as a user runs them, a folder for TMPDIR, and on loopback a website
and a Cloud Storage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import psutil
import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.version import ARCHIVE, CONFIG, Version
from pipeline.artefact.weights import Weights
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports, free_ports
from pipeline.store.bucket import connect
from pipeline.store.embedded_storage import EmbeddedStorage
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.storage_uri import StorageUri

PATIENCE_S = 60
UNKEPT = ("Connection", "Content-Length", "Date", "Server", "Transfer-Encoding")  # headers between two hosts
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


@pytest.fixture
def port() -> int:
    """A free one, with two free ones after it."""
    while True:
        (port,) = free_ports(1)
        try:
            Ports.starting_at(port).check_free()
        except (PipelineError, OverflowError):
            continue
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


# --- Cloud Storage ----------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What Cloud Storage answers."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """What a client asks of Cloud Storage. `path` is without its query; `size` is that of the body, in bytes."""

    method: str
    path: str
    size: int
    authorization: str | None
    _visit: _CloudVisit

    def receive(self, size: int) -> bytes:
        """The first bytes of the body, for a test that then breaks off."""
        return self._visit.rfile.read(size)

    def send_first(self, answer: Answer, size: int) -> None:
        """The first bytes of an answer, for a test that then breaks off."""
        self._visit.answer_with(answer, answer.body[:size])

    @cached_property
    def body(self) -> bytes:
        return self.receive(self.size)

    @property
    def is_upload(self) -> bool:
        return self.method == "POST" and self.path.startswith("/upload/")

    @property
    def is_part(self) -> bool:
        return self.is_upload and b".uploads/" in self.body

    @property
    def is_compose(self) -> bool:
        return self.path.endswith("/compose")

    @property
    def is_download(self) -> bool:
        return self.method == "GET" and self.path.startswith("/download/")


Trouble = Callable[[Call, Callable[[], Answer]], Answer | None]


class Cloud(ThreadingHTTPServer):
    """Cloud Storage with one bucket, at the end of a line on which a test may make trouble.

    `trouble` is called with each call, and with what gets its answer; it returns an answer, or None to hang up.
    `calls` are those that came; `over` is set when the test is.
    """

    daemon_threads = False  # server_close() waits for them

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _CloudVisit)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.upstream = upstream
        self.bucket = f"test-{uuid.uuid4().hex}"
        self.trouble: Trouble = lambda _, forward: forward()
        self.calls: list[Call] = []
        self.over = threading.Event()
        self._direct = httpx.Client(base_url=upstream, trust_env=False)
        self._direct.post("/storage/v1/b", json={"name": self.bucket}).raise_for_status()

    def server_close(self) -> None:
        self.over.set()
        super().server_close()
        self._direct.close()

    def refuse(self, status: int, message: str, hit: Callable[[Call], Any] = lambda _: True) -> None:
        """From now on, all calls that are hit are answered with an error."""
        answer = self.error(status, message)
        self.trouble = lambda call, forward: answer if hit(call) else forward()

    @staticmethod
    def page(status: int, text: bytes) -> Answer:
        """Of somebody in between, who is not Cloud Storage."""
        return Answer(status, text, {"Content-Type": "text/html"})

    @staticmethod
    def error(status: int, message: str) -> Answer:
        """In Cloud Storage's own form."""
        error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global"}]}
        return Answer(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})

    @property
    def sent(self) -> int:
        """The bytes of all bodies that have come, also of those that were refused."""
        return sum(call.size for call in self.calls)

    # What lies in the bucket is looked at and changed behind the clients' backs.

    def objects(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """The names of objects → what Cloud Storage tells of them."""
        found = self._direct.get(f"/storage/v1/b/{self.bucket}/o", params={"prefix": prefix}).raise_for_status().json()
        return {item["name"]: item for item in found.get("items", [])}

    def read(self, name: str) -> bytes:
        path = f"/download/storage/v1/b/{self.bucket}/o/{quote(name, '')}"
        return self._direct.get(path, params={"alt": "media"}).raise_for_status().content

    def put(self, name: str, content: bytes) -> None:
        parameters = {"uploadType": "media", "name": name}
        self._direct.post(f"/upload/storage/v1/b/{self.bucket}/o", params=parameters, content=content)
        assert self.read(name) == content

    def delete(self, name: str) -> None:
        self._direct.delete(f"/storage/v1/b/{self.bucket}/o/{quote(name, '')}").raise_for_status()


class _CloudVisit(BaseHTTPRequestHandler):
    server: Cloud

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # the client was killed, or had enough
            super().handle_one_request()

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        call = Call(self.command, self.path.partition("?")[0], size, self.headers["Authorization"], self)
        self.server.calls.append(call)
        answer = self.server.trouble(call, lambda: self._forward(call))
        if answer is not None:
            self.answer_with(answer, answer.body)

    def answer_with(self, answer: Answer, body: bytes) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def _forward(self, call: Call) -> Answer:
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Connection")}
        upstream = HTTPConnection(self.server.upstream.removeprefix("http://"))
        with closing(upstream):
            upstream.request(call.method, self.path, call.body, headers)
            response = upstream.getresponse()
            body = response.read()
        if "json" in response.headers.get("Content-Type", ""):  # it holds links
            body = body.replace(self.server.upstream.encode(), self.server.url.encode())
        if call.is_compose and response.status == 500:  # what fake-gcs-server says where parts are missing
            return self.server.error(404, "Not Found")
        kept = {name: value for name, value in response.headers.items() if name not in UNKEPT}
        return Answer(response.status, body, kept)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def embedded_storage() -> Iterator[EmbeddedStorage]:
    """One server for all tests; only those that ask for `cloud` are led to it."""
    before = dict(os.environ)
    with EmbeddedStorage("embedded") as running, pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - before.keys():
            patch.delenv(name)
        for name, value in before.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def cloud(
    embedded_storage: EmbeddedStorage, user_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """What Google's libraries take for Cloud Storage, in this process and in what it starts."""
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with Cloud(embedded_storage.url) as served:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither of this machine's user, nor of the machine itself."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "home" / "gcloud"))


def _files(checkout: Path, folder: Path, weights: Weights) -> dict[str, Path]:
    archive = build_archive(checkout / "handler", weights, folder / "alexnet.mar").path
    return {CONFIG: checkout / "config.properties", ARCHIVE: archive}


@pytest.fixture(scope="session")
def small(checkout: Path, tiny: Weights, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a version that is sent in one piece."""
    return _files(checkout, tmp_path_factory.mktemp("small"), tiny)


@pytest.fixture(scope="session")
def large(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a version whose archive is sent in three parts by `publish`, which has smaller ones."""
    random = np.random.default_rng(1).standard_normal(625_000, np.float32)
    return _files(checkout, tmp_path_factory.mktemp("large"), Weights("large", {"a": random}))


@pytest.fixture
def publish(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Publishes files in the bucket, beneath `models`; warnings count as failures."""
    monkeypatch.setattr("pipeline.store.publish.PART_BYTES", 2**20)

    def run(
        files: Mapping[str, Path],
        progress: Callable[[int, int], None] = lambda *_: None,
        warn: Callable[[str], None] = pytest.fail,
    ) -> Outcome:
        prefix = StorageUri(cloud.bucket, "models")
        return publish_version(connect(for_writing=True), prefix, Version.of(files), files, progress, warn)

    return run
