"""Images by URL against a real https server: fetched within bounds, or refused with the reason."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from pipeline.shared.ports import free_ports
from tests.support.in_a_thread import in_a_thread
from vision.errors import MalformedField, RequestError, TooLarge, UrlFailed, UrlNotAllowed, UrlTimedOut
from vision.fetch.image_url import REQUEST_FETCHES, UrlFetcher

LIMIT = 100_000
IMAGE = bytes(range(256)) * 100


class Answers(BaseHTTPRequestHandler):
    """Each path answers in its own way."""

    def do_GET(self) -> None:
        getattr(self, self.path.strip("/").replace("-", "_"))()

    def image(self) -> None:
        self._send(200, IMAGE)

    def missing(self) -> None:
        self._send(404, b"")

    def broken(self) -> None:
        self._send(500, b"")

    def redirect(self) -> None:
        self._send(302, b"", Location="/image")

    def downgrade(self) -> None:
        self._send(302, b"", Location=f"http://{self.headers['Host']}/image")

    def huge(self) -> None:
        self._send(200, bytes(LIMIT + 1))

    def just_fits(self) -> None:
        self._send(200, bytes(LIMIT))

    def cut_off(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.stopping.is_set():  # type: ignore[attr-defined]
            try:
                self.wfile.write(b"x")
            except OSError:
                return
            self.server.stopping.wait(0.05)  # type: ignore[attr-defined]

    def silent(self) -> None:
        self.server.silences.append(self.path)  # type: ignore[attr-defined]
        self.server.stopping.wait(30)  # type: ignore[attr-defined]

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    """An https server on loopback whose certificate is trusted."""
    authority = trustme.CA()
    certificate = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(certificate))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.silences = []  # type: ignore[attr-defined]
    server.stopping = threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "images.example.org").configure_cert(context)
    server.names = []  # type: ignore[attr-defined]
    context.sni_callback = lambda _socket, name, _context: server.names.append(name)  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.MonkeyPatch.context() as patch, in_a_thread(server):
        patch.setenv("SSL_CERT_FILE", str(certificate))
        yield server
        server.stopping.set()  # type: ignore[attr-defined]


@pytest.fixture
def host(server: ThreadingHTTPServer) -> str:
    return f"localhost:{server.server_port}"


@pytest.fixture
def silences(server: ThreadingHTTPServer) -> list[str]:
    """Records the requests that the server leaves unanswered from now on."""
    server.silences = []  # type: ignore[attr-defined]
    return server.silences  # type: ignore[attr-defined, no-any-return]


def fetcher(*allowed: str, timeout_s: float = 10, **others: Any) -> UrlFetcher:
    """A fetcher that considers loopback public, because the tests' server is there."""
    return UrlFetcher(list(allowed), timeout_s, LIMIT, check=lambda _: True, **others)


def fetch(url: str, *allowed: str, timeout_s: float = 10) -> bytes:
    return fetcher(*allowed, timeout_s=timeout_s).start(url, "instances[0].url").result()


def refusal(url: Any, *allowed: str, timeout_s: float = 10) -> RequestError:
    with pytest.raises(RequestError) as caught:
        fetch(url, *allowed, timeout_s=timeout_s)
    return caught.value


def test_an_image_from_an_allowed_host(host: str) -> None:
    assert fetch(f"https://{host}/image", host) == IMAGE
    assert fetch(f"https://{host.upper()}/image", host.upper()) == IMAGE
    assert len(fetch(f"https://{host}/just-fits", host)) == LIMIT


@pytest.mark.parametrize("allowed", [[], ["example.org"], ["localhost"]])
def test_any_other_host_is_403(allowed: list[str], host: str) -> None:
    error = refusal(f"https://{host}/image", *allowed)
    assert isinstance(error, UrlNotAllowed)
    assert error.status == 403


@pytest.mark.parametrize(
    "form", ["https://user@{host}/image", "https://{host}@example.org/", "https://{host}.example.org/"]
)
def test_names_that_only_look_like_the_host_are_403(form: str, host: str) -> None:
    assert refusal(form.format(host=host), host).status == 403


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        [],
        {},
        "",
        "cat.jpg",
        "http://{host}/image",
        "file:///etc/passwd",
        "ftp://{host}/",
        "https://",
        "https://[/",
        "//{host}/image",
    ],
)
def test_what_is_no_https_url_is_400(url: Any, host: str) -> None:
    error = refusal(url.format(host=host) if isinstance(url, str) else url, host)
    assert isinstance(error, MalformedField)
    assert str(error) == "instances[0].url: expected an https URL"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("missing", "the host answered 404"),
        ("broken", "the host answered 500"),
        ("cut-off", "the connection was lost"),
    ],
)
def test_a_bad_answer_is_502(path: str, sentence: str, host: str) -> None:
    error = refusal(f"https://{host}/{path}", host)
    assert isinstance(error, UrlFailed)
    assert (error.status, str(error)) == (502, f"instances[0].url: could not be fetched: {sentence}")


def test_a_redirect_is_followed(host: str) -> None:
    assert fetch(f"https://{host}/redirect", host) == IMAGE


def test_a_redirect_from_https_to_http_is_403(host: str) -> None:
    assert isinstance(refusal(f"https://{host}/downgrade", host), UrlNotAllowed)


def test_loopback_is_403(host: str) -> None:
    with pytest.raises(
        UrlNotAllowed, match=r"^instances\[0\].url: not fetched: the host has an address that is not pub"
    ):
        UrlFetcher([host], 10, LIMIT).start(f"https://{host}/image", "instances[0].url").result()


def test_a_host_that_is_not_there_is_502() -> None:
    (port,) = free_ports(1)
    assert isinstance(refusal(f"https://localhost:{port}/", f"localhost:{port}"), UrlFailed)


def test_a_certificate_that_is_not_trusted_is_502(host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert isinstance(refusal(f"https://{host}/image", host), UrlFailed)


def test_a_name_that_is_not_in_the_certificate_is_502(host: str) -> None:
    other = host.replace("localhost", "127.0.0.1")
    assert isinstance(refusal(f"https://{other}/image", other), UrlFailed)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("images.example.org", None), ("other.example.org", "the host's certificate is not valid for it")],
)
def test_tls_is_about_the_name_and_not_the_address(
    server: ThreadingHTTPServer, name: str, sentence: str | None
) -> None:
    def resolve(_name: str, _port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.server_port))]

    server.names.clear()  # type: ignore[attr-defined]
    pending = fetcher(name, resolve=resolve).start(f"https://{name}/image", "instances[0].url")
    if sentence is None:
        assert pending.result() == IMAGE
    else:
        with pytest.raises(UrlFailed, match=sentence):
            pending.result()
    assert server.names == [name]  # type: ignore[attr-defined]


def test_too_many_bytes_are_413(host: str) -> None:
    error = refusal(f"https://{host}/huge", host)
    assert isinstance(error, TooLarge)
    assert str(error) == f"instances[0].url: more than {LIMIT} bytes"


@pytest.mark.parametrize("path", ["silent", "endless"])
def test_too_slow_is_504(path: str, host: str) -> None:
    error = refusal(f"https://{host}/{path}", host, timeout_s=0.5)
    assert isinstance(error, UrlTimedOut)
    assert (error.status, str(error)) == (504, "instances[0].url: no complete answer within 0.5 s")


def test_slow_hosts_are_waited_for_together(host: str, silences: list[str]) -> None:
    """Their deadlines end together, so most of those without a thread by then never start."""
    fetches = fetcher(host, timeout_s=0.5).for_request()
    pending = [fetches.start(f"https://{host}/silent", f"instances[{n}].url") for n in range(64)]
    for fetch in pending:
        with pytest.raises(UrlTimedOut):
            fetch.result()
    fetches._pool.shutdown()
    assert 1 <= len(silences) <= 2 * REQUEST_FETCHES  # as many as a busy machine can start in time
