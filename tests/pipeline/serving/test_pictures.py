"""Pictures that are fetched here: within limits, only over https, and every error on one line."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from pipeline.serving import pictures
from pipeline.serving.pictures import fetch, read_file, scheme_of
from pipeline.shared.errors import NotClassified
from tests.support.website import Website, running_website


@pytest.fixture
def site(tmp_path: Path, user_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Website]:
    """A website over TLS, whose authority the environment names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_website(context) as running:
        yield running


def refusal(image: str) -> str:
    with pytest.raises(NotClassified) as raised:
        fetch(image)
    sentence = str(raised.value)
    assert sentence.startswith(f"{image}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{image}: ")


@pytest.mark.parametrize(
    ("image", "scheme"),
    [
        ("a.jpg", None),
        ("/a/b.jpg", None),
        ("C:/a.jpg", None),
        ("https://a/b", "https"),
        ("GS://b/c", "gs"),
        ("s3://b", "s3"),
    ],
)
def test_what_is_no_file_has_a_scheme(image: str, scheme: str | None) -> None:
    assert scheme_of(image) == scheme


def test_a_picture_is_fetched_as_it_is(site: Website) -> None:
    assert fetch(site.put("/a.jpg?b=c", b"picture")) == b"picture"
    assert site.headers["Accept-Encoding"] == "identity"
    assert "scripts/predict.sh" in site.headers["User-Agent"]
    assert site.headers["Authorization"] is None


def test_redirects_are_followed(site: Website) -> None:
    site.put("/a", b"", 302, Location="b")
    site.put("/b", b"", 308, Location=site.url + "/c")
    site.put("/c", b"picture")
    assert fetch(f"{site.url}/a") == b"picture"


def test_redirects_come_to_an_end(site: Website) -> None:
    assert refusal(site.put("/a", b"", 302, Location="/a")) == "not fetched: more than 5 redirects"
    assert site.asked == ["/a"] * 6


def test_no_redirect_leads_to_what_is_not_https(site: Website, website: Website) -> None:
    target = website.put("/a", b"picture")
    said = refusal(site.put("/a", b"", 302, Location=target))
    assert said == "not fetched: it redirects to http://, not to https://"
    assert website.asked == []


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404 Not Found"), (403, "403 Forbidden"), (500, "500 Internal Server Error")]
)
def test_another_status_is_told(site: Website, status: int, reason: str) -> None:
    assert refusal(site.put("/a", b"<html>", status)) == f"not fetched: {reason}"


def test_what_is_packed_is_not_unpacked(site: Website) -> None:
    said = refusal(site.put("/a", b"\x1f\x8b", 200, **{"Content-Encoding": "gzip"}))
    assert said == "not fetched: the host sends it compressed (gzip)"


def without_end(visit: BaseHTTPRequestHandler) -> None:
    visit.send_response(200)
    visit.end_headers()
    with suppress(OSError):
        while True:
            visit.wfile.write(bytes(65536))


def test_no_more_is_read_than_may_be(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 1000)
    assert fetch(site.put("/a", bytes(1000))) == bytes(1000)
    assert refusal(site.put("/b", bytes(1001))) == "more than 1000 bytes"
    site.pages["/c"] = without_end
    assert refusal(f"{site.url}/c") == "more than 1000 bytes"


def test_no_longer_is_waited_than_may_be(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "FETCH_TIMEOUT_S", 0.5)
    asked, over = threading.Event(), threading.Event()

    def silent(visit: BaseHTTPRequestHandler) -> None:
        """Keeps sending something, so that no wait for the next byte times out."""
        asked.set()
        with suppress(OSError):
            visit.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.02):
                visit.wfile.write(b"x: y\r\n")

    site.pages["/a"] = silent
    assert refusal(f"{site.url}/a") == "not fetched: it did not arrive within 0.5 s"
    assert asked.is_set()
    over.set()


def test_trouble_on_the_way_is_told_by_its_cause(
    site: Website, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    place = site.url.removeprefix("https://")
    assert refusal(f"https://127.0.0.1:{free_port}/a") == f"not fetched: 127.0.0.1:{free_port} refuses connections"
    assert refusal("https://name.invalid/a").startswith("not fetched: the name name.invalid ")
    monkeypatch.delenv("SSL_CERT_FILE")
    said = f"not fetched: the certificate of {place} is from an authority that is not known here"
    assert refusal(f"{site.url}/a") == said


@pytest.mark.parametrize("image", ["https://[::1/a", "https://a..b/c", "https://a:port/b", "https://"])
def test_what_is_no_url_is_told_so(image: str) -> None:
    assert refusal(image).startswith(("is not a URL: ", "not fetched: "))


def test_a_file_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(NotClassified, match=rf"^/dev/zero: more than {pictures.MOST_BYTES} bytes$"):
        read_file("/dev/zero")


def test_a_name_that_no_file_can_have_is_told_so() -> None:
    with pytest.raises(NotClassified, match=r"Invalid argument$"):
        read_file("a\x00b")
