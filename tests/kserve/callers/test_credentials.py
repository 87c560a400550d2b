"""Keys, tokens and rate limits, with a real Envoy in front of a real TorchServe."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import httpx
import pytest
import trustme

from pipeline.serving.question import QUESTION
from pipeline.serving.torchserve import has_envoy
from tests.kserve.callers.service import (
    AUDIENCE,
    CREDENTIALS,
    ISSUER,
    OTHER_ORIGIN,
    PER_CLIENT,
    PER_POD,
    TOO_FEW,
    Issuer,
    Secret,
    Service,
    serving,
)
from tests.support.in_a_thread import in_a_thread
from tests.support.waiting import Eventually

pytestmark = pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks who may ask")


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
        # The client's name, which the filter passes on in this header.
        running.ask(token=token, x_api_client="client-0"),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()) == (401, CREDENTIALS)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/json"


def test_what_the_server_says_about_itself_needs_neither(running: Service) -> None:
    for path in ("/", "/v1/models", "/v1/models/alexnet", "/v2", "/v2/health/live", "/v2/health/ready"):
        assert running.http.get(running.url + path).status_code == 200, path
    for path in ("/v2/models/alexnet/infer", "/elsewhere", "/v1/models/alexnet%3Apredict"):
        assert running.http.post(running.url + path, json=QUESTION).status_code == 401, path


def test_keys_come_change_and_go_while_the_server_runs(running: Service, eventually: Eventually) -> None:
    token = running.issuer.token()
    first, second, third = (f"{name}-{'x' * 32}" for name in ("first", "second", "third"))

    def known() -> list[bool]:
        """Whether each is let in; waiting for it may use up a client's minute, which gives 429."""
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


def test_a_missing_folder_lets_nobody_in(running: Service, eventually: Eventually) -> None:
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
    assert "API_KEYS: 1 clients may call" in text, "this is not the log"
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


def test_a_token_in_the_url_does_not_count(running: Service, eventually: Eventually) -> None:
    """It would appear in the logs of every gateway."""
    headers = {"x-api-key": running.new_key(eventually)}
    url = f"{running.predict_url}?access_token={running.issuer.token()}"
    assert running.http.post(url, json=QUESTION, headers=headers).status_code == 401


# --- rate limits ------------------------------------------------------------------------------------------------------


def taken(ask: Callable[[], httpx.Response], limit: int) -> httpx.Response:
    """Calls until the limit. The minute refills evenly, so a slow machine gets more answers."""
    began, granted = time.monotonic(), 0
    while (answer := ask()).status_code != 429:
        granted += 1
        assert granted <= limit + (time.monotonic() - began) * limit / 60 + 1
    assert granted > 0
    assert answer.json() == {"error": "client: too many requests: try again after Retry-After seconds"}
    assert answer.headers["retry-after"] == str(-(-60 // limit))
    return answer


def test_each_client_has_its_own_limit_by_its_key(running: Service, eventually: Eventually) -> None:
    names = ("alice", "bob")
    running.secret.hold({name: f"{name}-{'y' * 32}" for name in names})
    one, two = (running.both(f"{name}-{'y' * 32}") for name in names)
    eventually(lambda: running.http.post(running.predict_url, headers=two).status_code == 400)

    def ask(headers: dict[str, str]) -> httpx.Response:
        return running.http.post(running.predict_url, headers=headers)

    # Another name in the header by which calls are counted changes nothing.
    numbers = count()
    taken(lambda: ask(one | {"x-api-client": str(next(numbers))}), PER_CLIENT)
    assert ask(two).status_code == 400, "the other client has its own minute"
    for _ in range(PER_CLIENT):
        assert running.http.get(f"{running.url}/v2", headers=two).status_code == 200
        assert running.http.get(running.predict_url, headers=two).status_code == 405
    assert ask(two).status_code == 400, "only predict calls are counted"


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
def open_to_any_page(light_directory: Path, tmp_path: Path) -> Iterator[Service]:
    """Without API keys; with tokens of an issuer whose keys are fetched, addresses from a gateway, and every origin."""
    issuer, authority = Issuer(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with in_a_thread(Keys(authority, issuer.jwks())) as keys:
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
        with serving(light_directory, environment) as parts:
            service = Service(*parts, issuer, Secret(tmp_path / "none"))
            yield service
            service.http.close()


@pytest.mark.slow
def test_addresses_and_the_whole_pod_have_limits(open_to_any_page: Service, eventually: Eventually) -> None:
    service, token = open_to_any_page, open_to_any_page.issuer.token()

    def ask(address: str) -> Callable[[], httpx.Response]:
        return lambda: service.ask(token=token, x_forwarded_for=address, origin=OTHER_ORIGIN)

    eventually(lambda: ask("192.0.2.1")().status_code == 200)  # the issuer's keys have arrived
    assert service.ask(token=Issuer().token(), x_forwarded_for="192.0.2.2").status_code == 401
    answer = taken(ask("192.0.2.2"), TOO_FEW)
    assert answer.headers["access-control-allow-origin"] in ("*", OTHER_ORIGIN)
    assert ask("192.0.2.3")().status_code == 200
    assert ask("2001:db8:0:1::1")().status_code == 200
    addresses = (f"2001:db8:0:1::{number:x}" for number in count(2))
    taken(lambda: ask(next(addresses))(), TOO_FEW)  # all are one client's
    addresses = (f"198.51.100.{number}" for number in count(1))
    taken(lambda: ask(next(addresses))(), PER_POD)  # they are different clients', but too many together
