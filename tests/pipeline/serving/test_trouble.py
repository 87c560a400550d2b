"""The reason for a missing answer, on one line: real sockets, real TLS, impossible names."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.shared.errors import NoServer, PipelineError
from pipeline.shared.http import trusted
from tests.support.scripted_host import FOUND, pours, running_host, trickles
from tests.support.website import Website, running_website

PREDICT = "/v1/models/alexnet:predict"
ANSWER = b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.5}]}]}'
Told = Callable[..., str]


@pytest.fixture
def told(photographs: list[Path], user_environment: None) -> Told:
    """The error of a predict call that fails."""

    def tell(url: str, ca: Path | None = None, **headers: str) -> str:
        with pytest.raises(PipelineError) as raised, Client(url, MODEL_NAME, headers, ca) as client:
            client.predict(str(photographs[0]), top_k=1)
        sentence = str(raised.value)
        assert "\n" not in sentence
        assert isinstance(raised.value, NoServer) == sentence.startswith(("no answer from ", "no server at "))
        return sentence.removeprefix(f"{photographs[0]}: ")

    return tell


@pytest.fixture
def label(photographs: list[Path], user_environment: None) -> Callable[..., str]:
    """The label in the answer to a predict call."""

    def ask(url: str, ca: Path | None = None, **headers: str) -> str:
        with Client(url, MODEL_NAME, headers, ca) as client:
            return client.predict(str(photographs[0]), top_k=1)[0]["label"]

    return ask


class Secure:
    """A website over TLS whose certificate is for some names, and the file of its authority."""

    def __init__(self, site: Website, ca: Path) -> None:
        self.site, self.ca = site, ca
        self.url = site.url
        self.place = site.url.removeprefix("https://")
        site.put(PREDICT, ANSWER)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Callable[..., Secure]]:
    with ExitStack() as stack:

        def make(*names: str, not_after: dt.datetime | None = None) -> Secure:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*(names or ("127.0.0.1",)), not_after=not_after).configure_cert(context)
            return Secure(stack.enter_context(running_website(context)), tmp_path / "ca.pem")

        yield make


# --- Names, ports, routes ---------------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve(told: Told) -> None:
    sentence = told("http://name.invalid")
    assert sentence.startswith("no answer from http://name.invalid: the name name.invalid ")
    assert sentence.endswith(": check the name, and the network")


def test_a_port_on_which_nothing_listens_here(told: Told, free_port: int) -> None:
    assert told(f"127.0.0.1:{free_port}") == (
        f"no server at http://127.0.0.1:{free_port}: start one with scripts/serve.sh, or give --url"
    )


def test_a_server_that_does_not_take_connections(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose queue is full: Linux then makes clients wait."""
    monkeypatch.setattr("pipeline.serving.client.TIMEOUT", httpx.Timeout(5, connect=0.1))
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        place = f"127.0.0.1:{full.getsockname()[1]}"
        assert told(f"http://{place}").startswith(
            f"no answer from http://{place}: {place} does not accept the connection: "
        )


def test_a_server_that_never_answers(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.client.TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert told(url) == f"no complete answer from {url} in time (0.2 s)"


# --- Proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy(told: Told, free_port: int, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{free_port}")  # pragma: allowlist secret
    sentence = told(f"{scheme}://a.example")
    assert sentence == (
        f"no answer from {scheme}://a.example: the proxy http://127.0.0.1:{free_port} refuses connections: "
        "correct HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY"
    )


def test_a_proxy_whose_name_does_not_resolve(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.invalid:3128")
    assert "the proxy http://proxy.invalid:3128 has no address (" in told("https://a.example")


def test_a_proxy_that_refuses(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_host(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert f"the proxy http://127.0.0.1:{proxy.port} answers 403 Forbidden: " in told("https://a.example")
        assert proxy.asked.get().startswith(b"CONNECT a.example:443 ")


# --- Certificates -----------------------------------------------------------------------------------------------------


def test_with_its_authority_a_server_answers(secure: Callable[..., Secure], label: Told) -> None:
    one = secure()
    assert label(one.url, one.ca) == "tabby"


def test_the_authorities_of_the_environment_are_trusted(
    secure: Callable[..., Secure], label: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = secure()
    monkeypatch.setenv("SSL_CERT_FILE", str(one.ca))
    assert label(one.url) == "tabby"


def test_a_variable_that_names_no_file_is_told(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(PipelineError, match=r"gone\.pem cannot be read \(No such file or directory\)"):
        Client("https://a.example", MODEL_NAME)
    with Client("http://a.example", MODEL_NAME):
        pass  # which has no use for it


def test_an_unknown_authority(secure: Callable[..., Secure], told: Told) -> None:
    one = secure()
    assert told(one.url) == (
        f"no answer from {one.url}: the certificate of {one.place} is from an authority that is not known here: "
        "give its certificate with --ca FILE"
    )


def test_an_authority_that_is_given_is_trusted_alone(secure: Callable[..., Secure], told: Told, tmp_path: Path) -> None:
    one = secure()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    assert "is from an authority that is not known here" in told(one.url, tmp_path / "other.pem")


def test_a_certificate_that_has_expired(secure: Callable[..., Secure], told: Told) -> None:
    one = secure(not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    assert f"the certificate of {one.place} has expired: " in told(one.url, one.ca)


def test_a_certificate_for_another_name(secure: Callable[..., Secure], told: Told) -> None:
    one = secure("a.example")
    assert f"the certificate of {one.place} is for another name: " in told(one.url, one.ca)


def test_at_an_address_the_certificate_may_be_that_of_the_host_header(
    secure: Callable[..., Secure], label: Told, told: Told
) -> None:
    one = secure("a.example")
    assert label(one.url, one.ca, host="a.example") == "tabby"
    assert one.site.headers["Host"] == "a.example"
    assert "is for another name" in told(one.url, one.ca, host="b.example")


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[Secure]:
    """A certificate like those of `openssl req -x509`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    pem = tmp_path / "self.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a.example"]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-days",
        "2",
        "-keyout",
        str(tmp_path / "key.pem"),
        "-out",
        str(pem),
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, tmp_path / "key.pem")
    with running_website(context) as site:
        yield Secure(site, pem)


def test_a_self_signed_certificate(self_signed: Secure, told: Told, label: Told) -> None:
    assert told(self_signed.url) == (
        f"no answer from {self_signed.url}: the certificate of {self_signed.place} is self-signed: "
        "if it is yours, give it with --ca FILE"
    )
    assert label(self_signed.url, self_signed.ca) == "tabby"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("", "has no certificate"), ("no certificate", "has no certificate"), (None, "cannot be read (No such file")],
)
def test_a_file_without_certificates(content: str | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(PipelineError) as raised:
        trusted(tmp_path / "ca.pem")
    assert str(raised.value).startswith(f"{tmp_path / 'ca.pem'} {sentence}")
    assert "\n" not in str(raised.value)


# --- The other protocol -----------------------------------------------------------------------------------------------


def test_https_at_a_port_that_speaks_http(website: Website, told: Told) -> None:
    url = website.url.replace("http:", "https:")
    assert told(url) == (f"no answer from {url}: {url.removeprefix('https://')} does not speak TLS: give http://…")


def test_http_at_a_port_that_speaks_https(secure: Callable[..., Secure], told: Told) -> None:
    """A server that closes the connection, silently or with a TLS alert."""
    one = secure()
    assert told(f"http://{one.place}") == f"{one.place} speaks HTTPS, not HTTP: give https://…"


@contextmanager
def closing(after: int) -> Iterator[int]:
    """A host that closes each connection after this many bytes. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(after)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_closes_the_connection(told: Told, scheme: str) -> None:
    with closing(after=65536) as port:
        sentence = told(f"{scheme}://127.0.0.1:{port}")
    if scheme == "http":
        assert sentence.startswith(f"the connection to http://127.0.0.1:{port} broke off (")
    else:
        assert f"TLS with 127.0.0.1:{port} failed (" in sentence


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            b"Client sent an HTTP request to an HTTPS server.\n",
            "400: Bad Request: {place} speaks HTTPS, not HTTP: give https://…",
        ),
        (
            b"<html>The plain HTTP request was sent to HTTPS port</html>",
            "400: Bad Request: {place} speaks HTTPS, not HTTP: give https://…",
        ),
        (b"<html>no</html>", "400: Bad Request"),
    ],
)
def test_http_at_a_port_of_go_or_nginx_that_speaks_https(
    website: Website, told: Told, body: bytes, sentence: str
) -> None:
    website.put(PREDICT, body, 400)
    assert told(website.url) == sentence.format(place=website.url.removeprefix("http://"))


# --- What stands before the server ------------------------------------------------------------------------------------

GIVE = "give --token-file, --gcloud-token or --header @FILE"
NO_SUCH = (
    "404: Not Found: an ingress or gateway may not know this host or path: give --header 'Host: …', or another --url"
)


@pytest.mark.parametrize(
    ("status", "headers", "body", "sentence"),
    [
        (302, {"Location": "https://accounts.google.com/o/oauth2/v2/auth?client_id=x"}, b"",
         f"302: redirects to https://accounts.google.com/o/oauth2/v2/auth, perhaps a login page: {GIVE}"),
        (302, {"Location": "/dex/auth?client_id=x"}, b"",
         f"302: redirects to {{url}}/dex/auth, perhaps a login page: {GIVE}"),
        (301, {"Location": f"https://127.0.0.1{PREDICT}"}, b"", "301: redirects to another address: give --url https://127.0.0.1/"),
        (301, {"Location": "http://[::1"}, b"",
         "the connection to {url} broke off (Invalid URL in location header: Invalid port: ':1'.): "
         "look at the server's log"),
        (302, {"Location": "javascript:alert(1)"}, b"", "{url} redirects to an invalid URL: is it another server?"),
        (301, {}, b"", "301: Moved Permanently"),
        (401, {}, b"Invalid IAP credentials: empty token", f"401: Unauthorized: {GIVE}"),
        (401, {}, b'{"error": "credentials: missing or invalid"}', f"401: credentials: missing or invalid: {GIVE}"),
        (403, {}, b"<html>Forbidden</html>",
         "403: Forbidden: this is from a gateway, not the model: "
         "does it need --token-file, --gcloud-token or --header @FILE?"),
        (404, {}, b"default backend - 404", NO_SUCH),
        (404, {}, b"", NO_SUCH),
        (404, {}, b'{"error": "path: there is no such model"}', "404: path: there is no such model"),
        (503, {}, b"no healthy upstream",
         "503: Service Unavailable: this is from a gateway or proxy, not the model: is a pod ready?"),
        (503, {}, b'{"error": "server: busy"}', "503: server: busy"),
        (200, {"Content-Type": "text/html"}, b"<html><title>Sign in</title></html>",
         "{url} answers with a web page: is it a login page (--token-file, --gcloud-token or --header @FILE), "
         "or another server?"),
    ],
)  # fmt: skip
def test_what_a_gateway_answers_is_told_as_its_own(
    website: Website, told: Told, status: int, headers: dict[str, str], body: bytes, sentence: str
) -> None:
    website.put(PREDICT, body, status, **headers)
    assert told(website.url) == sentence.format(url=website.url, place=website.url.removeprefix("http://"))


def test_credentials_that_are_not_accepted(website: Website, told: Told) -> None:
    website.put(PREDICT, b"<html>no</html>", 401)
    said = told(website.url, authorization="Bearer secret")
    assert said == "401: Unauthorized: the credentials are not accepted"
    assert website.headers["Authorization"] == "Bearer secret"


def test_an_answer_that_trickles_is_not_waited_for(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.client.LONGEST_S", 0.5)
    with running_host(b"") as host:
        host.answer = trickles(FOUND, b"x: y\r\n")
        url = f"http://127.0.0.1:{host.port}"
        assert told(url) == f"no complete answer from {url} in time (60 s)"


def test_an_answer_without_end_is_no_answer(told: Told) -> None:
    with running_host(b"") as host:
        host.answer = pours(FOUND + b"Content-Type: application/json\r\n\r\n", b" " * 65536)
        url = f"http://127.0.0.1:{host.port}"
        assert told(url) == f"{url} does not answer like this model: is it another server?"
