"""Who may ask: API keys, tokens, rate limits and pages of other origins, by the real Envoy before a real TorchServe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.question import QUESTION
from pipeline.serving.server_log import ServerLog
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text
from server import api_keys
from server.door import find_envoy, settings
from server.errors import NotServed
from server.folder import Address
from tests.support.waiting import Eventually
from tests.support.website import Website

pytestmark = pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks who may ask")

ISSUER, AUDIENCE = "https://issuer.example", "alexnet"
OTHER_ORIGIN = "https://page.example"
PER_CLIENT, PER_POD = 40, 60
TOO_FEW = 4  # requests a minute, where addresses are counted
NO_PROXY: dict[str, Any] = {"trust_env": False, "timeout": 60}
CREDENTIALS = {"error": "credentials: none, or not valid"}
CORS = {"access-control-allow-origin", "access-control-expose-headers"}


# --- what is needed ---------------------------------------------------------------------------------------------------


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Makes tokens, as RFC 7519 has them."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwks(self) -> str:
        numbers = self.key.public_key().public_numbers()
        n, e = (base64url(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
        return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", "n": n, "e": e}]})

    def token(self, algorithm: str = "RS256", **claims: object) -> str:
        """claims: beside, or in the place of, good ones; None takes one away."""
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": int(time.time()) + 3600}
        said = {name: value for name, value in (good | claims).items() if value is not None}
        parts = [{"alg": algorithm, "typ": "JWT", "kid": "one"}, said]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{base64url(self._signature(algorithm, signed.encode()))}"

    def _signature(self, algorithm: str, signed: bytes) -> bytes:
        if algorithm == "none":
            return b""
        if algorithm == "HS256":  # with the public key as the secret: the oldest of tricks
            public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            mac = HMAC(public, SHA256())
            mac.update(signed)
            return mac.finalize()
        return self.key.sign(signed, padding.PKCS1v15(), SHA256())


class Secret:
    """A folder that Kubernetes mounts and changes: ..data is a link to a folder of that moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._moments = count()
        folder.mkdir()
        self.hold({})

    def hold(self, files: dict[str, str]) -> None:
        """As kubelet's AtomicWriter does it."""
        new = self.folder / f"..{next(self._moments)}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_text(content)
        data = self.folder / "..data"
        old = data.resolve() if data.exists() else None
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(data)
        there = {path.name for path in self.folder.iterdir() if not path.name.startswith("..")}
        for name in files.keys() - there:
            (self.folder / name).symlink_to(f"..data/{name}")
        for name in there - files.keys():
            (self.folder / name).unlink()
        if old:
            shutil.rmtree(old)


class Heard(ServerLog):
    """Keeps every line."""

    def __init__(self) -> None:
        super().__init__(MODEL_NAME, lambda _: None)
        self.lines: list[str] = []

    def read(self, stream: IO[str]) -> None:
        def kept() -> Iterator[str]:
            for line in stream:
                self.lines.append(line)
                yield line

        for line in kept():
            self._read_line(line.rstrip())
        stream.close()


class Service:
    """A running server, and all that one needs to ask it."""

    def __init__(self, running: TorchServe, heard: Heard, scratch: Path, issuer: Issuer, secret: Secret) -> None:
        self.running, self.heard, self.scratch, self.issuer, self.secret = running, heard, scratch, issuer, secret
        self.url, self.predict_url = running.url, running.predict_url
        self.http = httpx.Client(**NO_PROXY)
        self._numbers = count()

    def ask(self, key: str | None = None, token: str | None = None, **headers: str) -> httpx.Response:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        said |= {"x-api-key": key} if key is not None else {}
        said |= {"authorization": f"Bearer {token}"} if token is not None else {}
        return self.http.post(self.predict_url, json=QUESTION, headers=said)

    def new_key(self, eventually: Eventually) -> str:
        """Of a client that nobody has seen before, so that its minute is whole; others' keys go."""
        number = next(self._numbers)
        key = f"key-{number}-{'k' * 32}"
        self.secret.hold({f"client-{number}": key + "\n"})
        # A refused request costs the client nothing, and a body that is no request costs the model nothing.
        eventually(lambda: self.http.post(self.predict_url, headers=self.both(key)).status_code == 400)
        return key

    def both(self, key: str) -> dict[str, str]:
        return {"x-api-key": key, "authorization": f"Bearer {self.issuer.token()}"}


@pytest.fixture(scope="module")
def site() -> Iterator[Website]:
    """Where a page of another origin comes from."""
    with Website() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@contextmanager
def serving(directory: Path, environment: dict[str, str]) -> Iterator[tuple[TorchServe, Heard, Path]]:
    scratch = Path(tempfile.mkdtemp(prefix="w-", dir="/tmp"))  # short, for sockets
    heard = Heard()
    running = TorchServe(
        directory, MODEL_NAME, Ports.any_free(), environment={"TMPDIR": str(scratch), "LOG_REQUESTS": "1"} | environment
    )
    running._log = heard
    try:
        with running:
            yield running, heard, scratch
    finally:
        shutil.rmtree(scratch)


@pytest.fixture(scope="module")
def running(directory: Path, site: Website, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Everything is on."""
    folder = tmp_path_factory.mktemp("who")
    issuer, secret = Issuer(), Secret(folder / "keys")
    (folder / "jwks.json").write_text(issuer.jwks())
    environment = {
        "API_KEYS": str(secret.folder),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCES": f"another, {AUDIENCE}",
        "JWT_JWKS_FILE": str(folder / "jwks.json"),
        "RATE_LIMIT_PER_CLIENT": str(PER_CLIENT),
        "CORS_ALLOWED_ORIGINS": f"{OTHER_ORIGIN}, {site.url}",
        "MAX_REQUESTS": "2",
    }
    with serving(directory, environment) as parts:
        service = Service(*parts, issuer, secret)
        yield service
        service.http.close()


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_call_needs_a_known_key_and_a_good_token(running: Service, eventually: Eventually) -> None:
    key, token = running.new_key(eventually), running.issuer.token()
    assert running.ask(key, token).status_code == 200
    refused = [
        running.ask(),
        running.ask(token=token),
        running.ask("", token),
        running.ask(key[:-1], token),
        running.ask(key + "k", token),
        running.ask(key.upper(), token),
        running.ask(f"{key},{key}", token),
        running.ask(key),
        running.ask(key, key),
        running.http.post(running.predict_url, params={"x-api-key": key}, json=QUESTION),
        # The name of the client, which the filter itself tells the rest by this header.
        running.ask(token=token, x_api_client="client-0"),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()) == (401, CREDENTIALS)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/json"


def test_what_the_server_says_of_itself_needs_neither(running: Service) -> None:
    for path in ("/", "/v1/models", "/v1/models/alexnet", "/v2", "/v2/health/live", "/v2/health/ready"):
        assert running.http.get(running.url + path).status_code == 200, path
    for path in ("/v2/models/alexnet/infer", "/elsewhere", "/v1/models/alexnet%3Apredict"):
        assert running.http.post(running.url + path, json=QUESTION).status_code == 401, path


def test_keys_come_change_and_go_while_the_server_runs(running: Service, eventually: Eventually) -> None:
    token = running.issuer.token()
    first, second, third = (f"{name}-{'x' * 32}" for name in ("first", "second", "third"))

    def known() -> list[bool]:
        """Whether each is let in; waiting for it may use up a client's minute, which is 429."""
        statuses = [running.ask(key, token).status_code for key in (first, second, third)]
        assert set(statuses) <= {200, 401, 429}
        return [status != 401 for status in statuses]

    running.secret.hold({"one": first})
    eventually(lambda: known() == [True, False, False])
    running.secret.hold({"one": first, "two": second})
    eventually(lambda: known() == [True, True, False])
    running.secret.hold({"one": third, "two": second})
    eventually(lambda: known() == [False, True, True])
    running.secret.hold({"one": third})
    eventually(lambda: known() == [False, False, True])
    running.secret.hold({})
    eventually(lambda: known() == [False, False, False])


def test_a_folder_that_is_gone_lets_nobody_in(running: Service, eventually: Eventually) -> None:
    key = running.new_key(eventually)
    elsewhere = running.secret.folder.with_name("elsewhere")
    running.secret.folder.rename(elsewhere)
    try:
        eventually(lambda: running.http.post(running.predict_url, headers=running.both(key)).status_code == 401)
    finally:
        elsewhere.rename(running.secret.folder)
    eventually(lambda: running.http.post(running.predict_url, headers=running.both(key)).status_code == 400)


def test_no_key_and_no_token_gets_into_a_log_or_a_file_of_others(running: Service, eventually: Eventually) -> None:
    key, token, wrong = running.new_key(eventually), running.issuer.token(), "wrong-key-that-was-meant-for-elsewhere"
    before = len(running.heard.lines)
    assert running.ask(key, token).status_code == 200
    assert running.ask(wrong, token).status_code == 401
    assert running.ask(key, token + "x").status_code == 401
    eventually(lambda: sum('"status": 401' in line for line in running.heard.lines[before:]) >= 2)
    text = "".join(running.heard.lines)
    assert "API_KEYS: 1 clients may ask" in text, "it is the log"
    for secret in (key, "k" * 32, wrong, token, token.rpartition(".")[2]):
        assert secret not in text
    holding = [path for path in running.scratch.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert [path.name for path in holding] == ["api-keys.json"]
    for path in (*holding, holding[0].parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# --- tokens -----------------------------------------------------------------------------------------------------------

HOUR = 3600
TOKENS: dict[str, tuple[int, Callable[[Issuer], str]]] = {
    "good": (200, lambda issuer: issuer.token()),
    "for several": (200, lambda issuer: issuer.token(aud=["else", AUDIENCE])),
    "for the other audience": (200, lambda issuer: issuer.token(aud="another")),
    "expired": (401, lambda issuer: issuer.token(exp=int(time.time()) - HOUR)),
    "not yet valid": (401, lambda issuer: issuer.token(nbf=int(time.time()) + HOUR)),
    "for ever": (401, lambda issuer: issuer.token(exp=None)),
    "of another issuer": (401, lambda issuer: issuer.token(iss="https://other.example")),
    "of no issuer": (401, lambda issuer: issuer.token(iss=None)),
    "for another audience": (403, lambda issuer: issuer.token(aud="else")),
    "for nobody": (403, lambda issuer: issuer.token(aud=None)),
    "unsigned": (401, lambda issuer: issuer.token("none")),
    "signed by the public key": (401, lambda issuer: issuer.token("HS256")),
    "signed by another": (401, lambda issuer: Issuer().token()),
    "no token": (401, lambda issuer: "a.b.c"),
}


def test_a_token_is_from_the_issuer_for_us_and_for_now(running: Service, eventually: Eventually) -> None:
    key = running.new_key(eventually)
    for name, (status, make) in TOKENS.items():
        answer = running.ask(key, make(running.issuer))
        assert answer.status_code == status, name
        if status != 200:
            assert answer.json() == (CREDENTIALS if status == 401 else {"error": "credentials: not allowed here"}), name
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None), name


def test_a_token_in_the_address_is_none(running: Service, eventually: Eventually) -> None:
    """It would be in the logs of every gateway."""
    headers = {"x-api-key": running.new_key(eventually)}
    url = f"{running.predict_url}?access_token={running.issuer.token()}"
    assert running.http.post(url, json=QUESTION, headers=headers).status_code == 401


# --- rate limits ------------------------------------------------------------------------------------------------------


def taken(ask: Callable[[], httpx.Response], limit: int) -> httpx.Response:
    """Asks until it is too much. The minute comes back evenly, so a slow machine gets more answers."""
    began, granted = time.monotonic(), 0
    while (answer := ask()).status_code != 429:
        granted += 1
        assert granted <= limit + (time.monotonic() - began) * limit / 60 + 1
    assert granted > 0
    assert answer.json() == {"error": "client: too many requests, ask again after the seconds in Retry-After"}
    assert answer.headers["retry-after"] == str(-(-60 // limit))
    return answer


def test_each_client_has_its_own_limit_by_its_key(running: Service, eventually: Eventually) -> None:
    names = ("alice", "bob")
    running.secret.hold({name: f"{name}-{'y' * 32}" for name in names})
    one, two = (running.both(f"{name}-{'y' * 32}") for name in names)
    eventually(lambda: running.http.post(running.predict_url, headers=two).status_code == 400)

    def ask(headers: dict[str, str]) -> httpx.Response:
        return running.http.post(running.predict_url, headers=headers)

    # Another name in the header that the count goes by changes nothing.
    numbers = count()
    taken(lambda: ask(one | {"x-api-client": str(next(numbers))}), PER_CLIENT)
    assert ask(two).status_code == 400, "the other's minute is its own"
    for _ in range(PER_CLIENT):
        assert running.http.get(f"{running.url}/v2", headers=two).status_code == 200
        assert running.http.get(running.predict_url, headers=two).status_code == 405
    assert ask(two).status_code == 400, "what is no predict call is not counted"


class Keys(ThreadingHTTPServer):
    """An issuer's public keys, over https."""

    def __init__(self, authority: trustme.CA, body: str) -> None:
        class Visit(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Visit)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}/jwks.json"


@pytest.fixture
def open_to_any_page(directory: Path, tmp_path: Path) -> Iterator[Service]:
    """No keys; tokens of an issuer that is asked for its keys, addresses from a gateway, and every origin."""
    issuer, authority = Issuer(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Keys(authority, issuer.jwks()) as keys:
        thread = threading.Thread(target=keys.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        environment = {
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCES": AUDIENCE,
            "JWT_JWKS_URI": keys.url,
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "RATE_LIMIT_PER_CLIENT": str(TOO_FEW),
            "RATE_LIMIT_PER_POD": str(PER_POD),
            "TRUSTED_HOPS": "1",
            "CORS_ALLOWED_ORIGINS": "*",
        }
        try:
            with serving(directory, environment) as parts:
                service = Service(*parts, issuer, Secret(tmp_path / "none"))
                yield service
                service.http.close()
        finally:
            keys.shutdown()
            thread.join()


@pytest.mark.slow
def test_addresses_and_the_whole_pod_have_limits(open_to_any_page: Service, eventually: Eventually) -> None:
    service, token = open_to_any_page, open_to_any_page.issuer.token()

    def ask(address: str) -> Callable[[], httpx.Response]:
        return lambda: service.ask(token=token, x_forwarded_for=address, origin=OTHER_ORIGIN)

    eventually(lambda: ask("192.0.2.1")().status_code == 200)  # the issuer's keys have come
    assert service.ask(token=Issuer().token(), x_forwarded_for="192.0.2.2").status_code == 401
    answer = taken(ask("192.0.2.2"), TOO_FEW)
    assert answer.headers["access-control-allow-origin"] in ("*", OTHER_ORIGIN)
    assert ask("192.0.2.3")().status_code == 200
    assert ask("2001:db8:0:1::1")().status_code == 200
    addresses = (f"2001:db8:0:1::{number:x}" for number in count(2))
    taken(lambda: ask(next(addresses))(), TOO_FEW)  # they are all one client's
    addresses = (f"198.51.100.{number}" for number in count(1))
    taken(lambda: ask(next(addresses))(), PER_POD)  # they are not, but all together are too many


# --- pages of other origins -------------------------------------------------------------------------------------------

ASKED = "content-type,x-request-id,traceparent,authorization,x-api-key"


def preflight(http: httpx.Client, url: str, origin: str, method: str = "POST") -> httpx.Response:
    """As a browser asks: https://fetch.spec.whatwg.org/#cors-preflight-fetch"""
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": ASKED}
    return http.options(url, headers=headers)


def allowed(answer: httpx.Response, origin: str) -> bool:
    """https://fetch.spec.whatwg.org/#concept-cors-check, and that no cache mixes origins up."""
    said = answer.headers.get_list("access-control-allow-origin")
    assert said in ([], [origin])
    if said and answer.request.method != "OPTIONS":
        assert "origin" in answer.headers.get("vary", "").lower()
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == {"x-request-id", "retry-after"}
    return said == [origin]


def test_a_preflight_says_what_the_fetch_standard_wants(running: Service, site: Website) -> None:
    for url in (running.predict_url, f"{running.url}/v2/health/ready", f"{running.url}/", f"{running.url}/docs"):
        for origin in (OTHER_ORIGIN, site.url):
            answer = preflight(running.http, url, origin)
            assert 200 <= answer.status_code <= 299, "an ok status"
            assert answer.content == b""
            assert allowed(answer, origin)
            methods = {name.strip() for name in answer.headers["access-control-allow-methods"].split(",")}
            assert methods == {"GET", "HEAD", "POST"}
            names = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
            assert names == set(ASKED.split(","))
            assert int(answer.headers["access-control-max-age"]) == 600
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://page.example.evil", "http://page.example", "https://page-example", "null"])
def test_no_other_origin_is_allowed(running: Service, origin: str) -> None:
    answer = preflight(running.http, running.predict_url, origin)
    assert answer.status_code == 401, "no preflight that is answered here; and others need a key"
    for other in (
        answer,
        running.ask(origin=origin),
        running.http.get(f"{running.url}/v2", headers={"origin": origin}),
    ):
        assert not [name for name in other.headers if name.startswith("access-control-")]


def test_a_page_can_read_every_answer(running: Service, eventually: Eventually) -> None:
    key, token = running.new_key(eventually), running.issuer.token()
    headers = running.both(key) | {"origin": OTHER_ORIGIN}
    http, url = running.http, running.predict_url
    answers = {
        200: running.ask(key, token, origin=OTHER_ORIGIN),
        400: http.post(url, content=b"{", headers=headers),
        401: running.ask(origin=OTHER_ORIGIN),
        403: running.ask(key, running.issuer.token(aud="else"), origin=OTHER_ORIGIN),
        404: http.get(f"{running.url}/nothing", headers=headers),
        405: http.put(url, headers=headers),
        413: http.post(url, content=bytes(16 * 1024 * 1024 + 1), headers=headers),
        415: http.post(url, content=b"{}", headers=headers | {"content-encoding": "compress"}),
    }
    assert {answer.status_code: True for answer in answers.values()} == dict.fromkeys(answers, True)
    for status, answer in answers.items():
        assert allowed(answer, OTHER_ORIGIN), status
        assert answer.headers["x-request-id"]
    answer = http.get(f"{running.url}/v2", headers={"origin": OTHER_ORIGIN})
    assert answer.status_code == 200
    assert allowed(answer, OTHER_ORIGIN)


def test_a_page_can_read_that_too_many_wait(running: Service, eventually: Eventually, photographs: list[Path]) -> None:
    body = {"instances": [{"b64": base64_text(photographs[0].read_bytes())}] * 4}  # two at a time; this keeps them busy
    headers = running.both(running.new_key(eventually)) | {"origin": OTHER_ORIGIN}

    def ask(_: int) -> httpx.Response:
        return httpx.post(running.predict_url, json=body, headers=headers, **NO_PROXY)

    def busy() -> list[httpx.Response]:
        with ThreadPoolExecutor(8) as pool:
            return [answer for answer in pool.map(ask, range(8)) if answer.status_code == 503]

    answer, *_ = eventually(busy)
    assert allowed(answer, OTHER_ORIGIN)
    assert int(answer.headers["retry-after"]) >= 1


def test_without_the_variable_there_is_no_word_of_origins(server: TorchServe) -> None:
    with httpx.Client(**NO_PROXY) as http:
        for url in (server.predict_url, f"{server.url}/v2"):
            answer = preflight(http, url, OTHER_ORIGIN)
            assert answer.status_code == 405
            assert answer.json()["error"].startswith("method: ")
            actual = http.post(url, json=QUESTION, headers={"origin": OTHER_ORIGIN})
            for one in (answer, actual):
                assert not [name for name in one.headers if name.startswith("access-control-")]
                assert "origin" not in one.headers.get("vary", "").lower()


PAGE = """<!doctype html><title>of another origin</title><script>
const said = new URLSearchParams(location.search);
const headers = {"x-api-key": said.get("key"), "authorization": "Bearer " + said.get("token")};
const url = said.get("service"), predict = url + "/v1/models/alexnet:predict";
async function one(name, path, options) {
  try {
    const answer = await fetch(path, options), body = await answer.json();
    return [name, answer.status, body.error || Object.keys(body)[0] || "", answer.headers.get("x-request-id") !== null];
  } catch (error) {
    return [name, error.name];
  }
}
(async () => {
  const picture = await (await fetch("/picture.jpg")).blob(), bytes = await picture.arrayBuffer();
  const form = new FormData();
  form.append("data", picture, "picture.jpg");
  const b64 = btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""));
  const post = (body, type) => ({method: "POST", body, headers: type ? {...headers, "content-type": type} : headers});
  const found = [
    await one("jpeg", predict, post(bytes, "image/jpeg")),
    await one("json", predict, post(JSON.stringify({instances: [{b64}]}), "application/json")),
    await one("blob", predict, post(picture)),
    await one("form", predict, post(form)),
    await one("bad", predict, post("{", "application/json")),
    await one("stranger", predict, {method: "POST", body: picture}),
    await one("status", url + "/v2"),
  ];
  await fetch("/found?" + encodeURIComponent(JSON.stringify(found)));
})();
</script>"""


@contextmanager
def browser(url: str, scratch: Path) -> Iterator[None]:
    """A headless Chromium that opens a page."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not here: no `chromium` in PATH (Debian has a package of that name)")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={scratch}/profile", "--remote-debugging-port=0", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def seen_by_a_page(
    site: Website, origin: str, service: str, credentials: dict[str, str], scratch: Path, eventually: Eventually
) -> dict[str, list[Any]]:
    site.asked.clear()
    query = urllib.parse.urlencode({"service": service} | credentials)
    with browser(f"{origin}/page.html?{query}", scratch):
        (found,) = eventually(lambda: [path for path in site.asked if path.startswith("/found?")])
    entries: list[list[Any]] = json.loads(urllib.parse.unquote(found.partition("?")[2]))
    return {name: rest for name, *rest in entries}


class Anything(dict[str, Callable[[BaseHTTPRequestHandler], None]]):
    """Pages by their path, whatever the query says."""

    def __getitem__(self, path: str) -> Callable[[BaseHTTPRequestHandler], None]:
        return super().__getitem__(path.partition("?")[0])


def test_a_page_in_chromium_asks_where_its_origin_is_allowed_and_nowhere_else(
    running: Service,
    server: TorchServe,
    site: Website,
    photographs: list[Path],
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    site.pages = Anything()
    site.put("/page.html", PAGE.encode(), 200, **{"Content-Type": "text/html"})
    site.put("/picture.jpg", photographs[0].read_bytes(), 200, **{"Content-Type": "image/jpeg"})
    site.put("/found", b"")
    site.put("/favicon.ico", b"", 404)
    credentials = {"key": running.new_key(eventually), "token": running.issuer.token()}
    found = seen_by_a_page(site, site.url, running.url, credentials, tmp_path / "allowed", eventually)
    form = found.pop("form")
    status = found.pop("status")
    assert found == {
        "jpeg": [200, "predictions", True],
        "json": [200, "predictions", True],
        "blob": [200, "predictions", True],
        "bad": [400, found["bad"][1], True],
        "stranger": [401, "credentials: none, or not valid", True],
    }
    assert found["bad"][1].startswith("body: ")
    files = {"data": ("picture.jpg", photographs[0].read_bytes(), "image/jpeg")}
    headers = running.both(credentials["key"])
    without_a_browser = running.http.post(running.predict_url, files=files, headers=headers)
    assert (form[0], form[2]) == (without_a_browser.status_code, True), form
    assert (status[0], status[2]) == (200, True)
    # The same page by another name of its host is of another origin, and the other service allows none.
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    for number, (origin, service) in enumerate([(elsewhere, running.url), (site.url, server.url)]):
        found = seen_by_a_page(site, origin, service, credentials, tmp_path / str(number), eventually)
        assert found.keys() == {"jpeg", "json", "blob", "form", "bad", "stranger", "status"}
        assert all(answer == ["TypeError"] for answer in found.values()), found


# --- variables --------------------------------------------------------------------------------------------------------

GOOD = {
    "CORS_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,http://[::1]:80",
    "JWT_ISSUER": ISSUER,
    "JWT_AUDIENCES": "a,b c",
    "JWT_JWKS_URI": "https://issuer.example/keys",
    "RATE_LIMIT_PER_CLIENT": "1",
    "RATE_LIMIT_PER_POD": "1000000",
}
BAD = {
    "CORS_ALLOWED_ORIGINS": [
        "a.example",
        "https://a.example/",
        "https://*.example",
        "null",
        "https://A.example",
        "https://a.example:",
        "ftp://a",
        "'",
    ],
    "API_KEYS": ["/nowhere", "sk-a-key-itself"],
    "JWT_ISSUER": ["https://a b", "ü"],
    "JWT_JWKS_URI": [
        "http://a.example/k",
        "https://",
        "https://10.0.0.1/k",
        "https://a:99999/",
        "https://u@a.example/",
    ],
    "JWT_JWKS_FILE": ["/nowhere", "/dev/null"],
    "RATE_LIMIT_PER_CLIENT": ["0", "-1", "1.5", "many", "1000001", "١"],
    "RATE_LIMIT_PER_POD": ["0"],
}


def valid(text: str, folder: Path) -> bool:
    """Whether Envoy takes it."""
    file = folder / "envoy.yaml"
    file.write_text(text)
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def filled_in(folder: Path, name: str = MODEL_NAME) -> str:
    return settings(folder, name, Address("127.0.0.1", 8080), 8081)


@pytest.mark.parametrize("left_out", [None, *GOOD])
def test_envoy_takes_each_combination(left_out: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in GOOD.items():
        if name != left_out and not (left_out and left_out.startswith("JWT_") and name.startswith("JWT_")):
            monkeypatch.setenv(name, value)
    assert valid(filled_in(tmp_path), tmp_path)


def test_envoy_takes_a_long_name_and_many_origins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It refuses patterns above a size, unless it is told another."""
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", ",".join(f"https://{number}.page.example" for number in range(200)))
    assert valid(filled_in(tmp_path, "n" * 200), tmp_path)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_variable_that_makes_no_sense_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NotServed, match=f"^{name}") as raised:
        filled_in(tmp_path)
    assert "\n" not in str(raised.value)
    if name == "API_KEYS":
        assert value not in str(raised.value), "it may be a key, in the wrong place"


@pytest.mark.parametrize("missing", ["JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI"])
def test_half_of_what_tokens_need_is_refused(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in {"JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI"} - {missing}:
        monkeypatch.setenv(name, GOOD[name])
    with pytest.raises(NotServed, match=f"^{missing}.*to be set too"):
        filled_in(tmp_path)


def test_keys_of_tokens_come_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(Issuer().jwks())
    for name, value in (GOOD | {"JWT_JWKS_FILE": str(tmp_path / "jwks.json")}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotServed, match="JWT_JWKS_URI and JWT_JWKS_FILE"):
        filled_in(tmp_path)


def test_without_envoy_nothing_is_served_that_somebody_wanted_guarded(
    directory: Path, checkout: Path, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout / "kserve" / "runtime"), "FRONT_DOOR": "none"}
    environment |= {"API_KEYS": str(tmp_path), "RATE_LIMIT_PER_POD": "9", "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "server", str(directory)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["message"].startswith("API_KEYS, RATE_LIMIT_PER_POD: only Envoy can do that")


# --- the folder of keys -----------------------------------------------------------------------------------------------


def test_only_what_is_a_key_is_taken(tmp_path: Path) -> None:
    good = "0123456789abcdef"
    files = {
        "good": f"{good}\n".encode(),
        "longest": b"k" * 512,
        "spaces-around": b"  fedcba9876543210 \r\n",
        "double": good.encode(),
        "empty": b"",
        "short": b"0123456789abcde",
        "long": b"k" * 513,
        "endless": b"k" * 100_000,
        "two-lines": b"0123456789abcdef\n0123456789abcdef",
        "no-ascii": "schlüssel-schlüssel".encode(),
        "a name": b"0123456789abcdefg",
        ".hidden": b"0123456789abcdefh",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    keys, faults = api_keys.read(tmp_path)
    # In the order of the names: "double" comes before "good".
    assert keys == {
        "double": good,
        "longest": "k" * 512,
        "spaces-around": "fedcba9876543210",  # pragma: allowlist secret
    }
    for name in ("good", "empty", "short", "long", "endless", "two-lines", "no-ascii", "'a name'", "'folder'"):
        assert sum(f"{name} " in fault for fault in faults) == 1, name
    for content in files.values():
        assert not content or not any(content.decode() in fault for fault in faults)


def test_the_file_for_envoy_is_the_servers_alone_and_changes_whole(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "keys", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    mask = os.umask(0)
    try:
        keys = api_keys.ApiKeys(folder, scratch)
        (file,) = scratch.iterdir()
        empty = json.loads(file.read_text())
        first = file.stat()
        keys.look()
        assert file.stat().st_ino == first.st_ino, "nothing has changed"
        (folder / "one").write_text("0123456789abcdef")
        keys.look()
    finally:
        os.umask(mask)
    assert file.stat().st_ino != first.st_ino, "Envoy would not hear of it"
    assert stat.S_IMODE(first.st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in scratch.iterdir()] == [file.name]
    assert empty["resources"][0]["typed_config"]["credentials"] == []
    credentials = json.loads(file.read_text())["resources"][0]["typed_config"]["credentials"]
    assert credentials == [{"key": "0123456789abcdef", "client": "one"}]
