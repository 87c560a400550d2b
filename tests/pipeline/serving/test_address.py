"""--url accepts every URL that this project prints or documents, and whatever a browser would accept."""

from __future__ import annotations

import pytest

from pipeline.serving.address import Address
from pipeline.serving.route import predict_route
from pipeline.shared.errors import NoUrl

V1 = "/v1/models/alexnet:predict"


@pytest.mark.parametrize(
    "said",
    [
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/",
        "127.0.0.1:8080",
        "127.0.0.1:8080/",
        "HTTP://127.0.0.1:8080/",
        *(
            f"http://127.0.0.1:8080{path}"
            for path in (
                *(V1, "/v1/models/alexnet%3Apredict", "/v1/models/alexnet:explain", "/v1/models/alexnet"),
                *("/v1", "/v1/", "/v1/models", "/v1/models/", "/docs", "/openapi.json", "/#top"),
                *(
                    "/v2",
                    "/v2/",
                    "/v2/health/live",
                    "/v2/health/ready",
                    "/v2/models/alexnet",
                    "/v2/models/alexnet/ready",
                ),
                *("/v2/models/alexnet/infer", "/v2/models/alexnet/versions/1/infer"),
            )
        ),
    ],
)
def test_any_path_of_the_servers_leads_to_the_server(said: str) -> None:
    address = Address.parse(said, "alexnet")
    assert str(address) == "http://127.0.0.1:8080"
    assert str(address.at(predict_route(address.model))) == f"http://127.0.0.1:8080{V1}"


@pytest.mark.parametrize(
    ("said", "predict"),
    [
        ("localhost:8080", f"http://localhost:8080{V1}"),
        ("localhost", f"http://localhost{V1}"),
        ("[::1]:8080", f"http://[::1]:8080{V1}"),
        ("alexnet-alexnet.example.com", f"http://alexnet-alexnet.example.com{V1}"),
        ("https://alexnet.example.com", f"https://alexnet.example.com{V1}"),
        ("https://bücher.example/v1", f"https://xn--bcher-kva.example{V1}"),
        ("https://a.example/serving/ns/alexnet", f"https://a.example/serving/ns/alexnet{V1}"),
        (f"https://a.example/serving/ns/alexnet{V1}", f"https://a.example/serving/ns/alexnet{V1}"),
        ("https://a.example/v1/models/cats:predict", "https://a.example/v1/models/cats:predict"),
        ("https://a.example/v2/models/cats/infer", "https://a.example/v1/models/cats:predict"),
        ("https://a.example/?key=secret", f"https://a.example{V1}?key=secret"),
        ("https://me:secret@a.example/", f"https://me:secret@a.example{V1}"),  # pragma: allowlist secret
    ],
)
def test_where_predict_calls_go(said: str, predict: str) -> None:
    address = Address.parse(said, "alexnet")
    assert address.at(predict_route(address.model)) == predict
    assert "secret" not in str(address)


@pytest.mark.parametrize(
    "said",
    [
        *("", " ", "8080", ":8080", "//127.0.0.1:8080", "http://", "https:///v1", "http://127.0.0.1:port"),
        *("localhost:port", "http://127.0.0.1:0", "localhost:99999", "http://[::1", "ftp://127.0.0.1"),
        *("grpc://127.0.0.1:8081", "file:///etc/hosts", "http://127.0.0.1:8080\n", "http://xn--a", "http://a..b"),
    ],
)
def test_what_is_no_url_of_a_server_is_told_in_a_line(said: str) -> None:
    with pytest.raises(NoUrl) as raised:
        Address.parse(said, "alexnet")
    sentence = str(raised.value)
    assert sentence.startswith(f"{said!r} is not a URL of a server")
    assert sentence.endswith(": expected http://HOST:PORT or https://HOST")
    assert "\n" not in sentence


def test_a_number_of_classes_is_none_of_an_address() -> None:
    with pytest.raises(
        NoUrl, match=r"^'http://127.0.0.1:8080/v1\?…' is not a URL .*use --top-k to choose how many classes"
    ):
        Address.parse("http://127.0.0.1:8080/v1?top_k=2", "alexnet")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://me:hidden@a.example:99999", "http://…@a.example:99999"),  # pragma: allowlist secret
        ("http://me:hid/den@a.example", "http://…@a.example"),  # pragma: allowlist secret
        ("http://me:hid?den@a.example", "http://…@a.example"),  # pragma: allowlist secret
        ("me:hidden@a.example:8080", "…@a.example:8080"),  # pragma: allowlist secret
        ("ftp://a.example?key=hidden", "ftp://a.example?…"),
        ("http://a.example?key=hidden&top_k=2", "http://a.example?…"),
    ],
)
def test_a_url_that_is_refused_is_shown_without_its_secrets(said: str, shown: str) -> None:
    with pytest.raises(NoUrl) as raised:
        Address.parse(said, "alexnet")
    assert str(raised.value).startswith(f"{shown!r} is not a URL of a server")
    assert "hid" not in str(raised.value)
    assert "den" not in str(raised.value)
