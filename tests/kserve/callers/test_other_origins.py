"""Pages of other origins: the headers for browsers, and a page in Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.serving.question import QUESTION
from pipeline.serving.torchserve import TorchServe, has_envoy
from reliability.pictures import base64_text
from tests.kserve.callers.service import (
    NO_PROXY,
    OTHER_ORIGIN,
    Service,
)
from tests.support.waiting import Eventually
from tests.support.website import Website

pytestmark = pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks who may ask")


ASKED = "content-type,inference-header-content-length,x-request-id,traceparent,authorization,x-api-key"


def preflight(http: httpx.Client, url: str, origin: str, method: str = "POST") -> httpx.Response:
    """As a browser asks: https://fetch.spec.whatwg.org/#cors-preflight-fetch"""
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": ASKED}
    return http.options(url, headers=headers)


def allowed(answer: httpx.Response, origin: str) -> bool:
    """https://fetch.spec.whatwg.org/#concept-cors-check, and caches must not mix origins up."""
    said = answer.headers.get_list("access-control-allow-origin")
    assert said in ([], [origin])
    if said and answer.request.method != "OPTIONS":
        assert "origin" in answer.headers.get("vary", "").lower()
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == {"x-request-id", "x-model-version", "retry-after", "inference-header-content-length"}
    return said == [origin]


def test_a_preflight_answers_as_the_fetch_standard_requires(running: Service, site: Website) -> None:
    paths = ("/v2/models/alexnet/infer", "/v1/models/alexnet:explain", "/v2/health/ready", "/", "/docs")
    for url in (running.predict_url, *(running.url + path for path in paths)):
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


def test_a_page_can_read_an_overload(running: Service, eventually: Eventually, photographs: list[Path]) -> None:
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


def test_without_the_variable_there_are_no_cors_headers(server: TorchServe) -> None:
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
        pytest.skip("Chromium is not installed: no `chromium` in PATH (Debian has a package of that name)")
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


def test_a_page_in_chromium_can_call_only_where_its_origin_is_allowed(
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
        "stranger": [401, "credentials: missing or invalid", True],
    }
    assert found["bad"][1].startswith("body: ")
    files = {"data": ("picture.jpg", photographs[0].read_bytes(), "image/jpeg")}
    headers = running.both(credentials["key"])
    without_a_browser = running.http.post(running.predict_url, files=files, headers=headers)
    assert (form[0], form[2]) == (without_a_browser.status_code, True), form
    assert (status[0], status[2]) == (200, True)
    # Under another name of its host, the same page has another origin, and the other service allows none.
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    for number, (origin, service) in enumerate([(elsewhere, running.url), (site.url, server.url)]):
        found = seen_by_a_page(site, origin, service, credentials, tmp_path / str(number), eventually)
        assert found.keys() == {"jpeg", "json", "blob", "form", "bad", "stranger", "status"}
        assert all(answer == ["TypeError"] for answer in found.values()), found
