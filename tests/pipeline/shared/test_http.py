"""Which proxy a request goes through."""

from __future__ import annotations

import httpx
import pytest

from pipeline.shared.http import proxy_of


@pytest.fixture(autouse=True)
def _proxies(user_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://one:3128")
    monkeypatch.setenv("HTTPS_PROXY", "two:3128")


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("http://a.example", "", "http://one:3128"),
        ("https://a.example", "", "http://two:3128"),
        ("https://a.example", "b.example", "http://two:3128"),
        ("https://a.example", "a.example", None),
        ("https://a.example:8443", "a.example:8443", None),
        ("https://a.example", ".example", None),
        ("https://a.example", "*", None),
        ("https://10.1.2.3", "10.0.0.0/8", None),
        ("https://10.1.2.3", "10.0.0.0/8, 192.168.0.0/16", None),
        ("https://11.1.2.3", "10.0.0.0/8", "http://two:3128"),
        ("https://[fd00::1]", "fd00::/8", None),
        ("http://127.0.0.1:8080", "", None),
        ("http://127.9.9.9:8080", "", None),
        ("http://[::1]:8080", "", None),
        ("http://localhost:8080", "", None),
        ("http://alexnet.localhost", "", None),
    ],
)
def test_a_proxy_is_that_of_the_environment_but_for_loopback(
    url: str, no_proxy: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(httpx.URL(url)) == proxy


def test_one_proxy_may_be_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    assert proxy_of(httpx.URL("https://a.example")) == "http://all:1"
    assert proxy_of(httpx.URL("http://a.example")) == "http://one:3128"
