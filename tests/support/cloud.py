"""Cloud Storage on loopback: an embedded server, behind a proxy with which a test can cause trouble."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from pipeline.store.embedded_storage import EmbeddedStorage
from tests.support.in_a_thread import in_a_thread

# Hop-by-hop headers, which are not passed on.
UNKEPT = ("Connection", "Content-Length", "Date", "Server", "Transfer-Encoding")


@dataclass
class Answer:
    """An answer of Cloud Storage."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """A request to Cloud Storage. `path` has no query; `size` is that of the body, in bytes."""

    method: str
    path: str
    size: int
    authorization: str | None
    _visit: _CloudVisit

    def receive(self, size: int) -> bytes:
        """The first bytes of the body, for a test that then disconnects."""
        return self._visit.rfile.read(size)

    def send_first(self, answer: Answer, size: int) -> None:
        """The first bytes of an answer, for a test that then disconnects."""
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
        """From now on, all matching calls get an error."""
        answer = self.error(status, message)
        self.trouble = lambda call, forward: answer if hit(call) else forward()

    @staticmethod
    def page(status: int, text: bytes) -> Answer:
        """An error from an intermediary, not from Cloud Storage."""
        return Answer(status, text, {"Content-Type": "text/html"})

    @staticmethod
    def error(status: int, message: str) -> Answer:
        """An error in Cloud Storage's own format."""
        error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global"}]}
        return Answer(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})

    @property
    def sent(self) -> int:
        """The bytes of all bodies received, including refused ones."""
        return sum(call.size for call in self.calls)

    # Reads and changes the bucket behind the clients' backs.

    def objects(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """The names of objects → their metadata."""
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
        with suppress(ConnectionError):  # the client was killed, or left
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
        if call.is_compose and response.status == 500:  # fake-gcs-server's answer when parts are missing
            return self.server.error(404, "Not Found")
        kept = {name: value for name, value in response.headers.items() if name not in UNKEPT}
        return Answer(response.status, body, kept)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def embedded_storage() -> Iterator[EmbeddedStorage]:
    """One server for all tests; only those that use `cloud` reach it."""
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
    """Makes Google's libraries use this server, in this process and its children."""
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with in_a_thread(Cloud(embedded_storage.url)) as served:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
        yield served


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, neither of this machine's user nor of the machine itself."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "home" / "gcloud"))
