"""KServe v1 calls: against a real TorchServe, and against what is not one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.errors import NoServer, NotClassified, PipelineError, TooManyCalls

PREDICT = "/v1/models/alexnet:predict"


@pytest.fixture
def client(server: TorchServe) -> Iterator[Client]:
    with Client(server.url, MODEL_NAME) as opened:
        yield opened


@pytest.fixture
def photograph(photographs: list[Path]) -> str:
    return str(photographs[0])


def refusal(client: Client, image: str) -> str:
    with pytest.raises(PipelineError) as raised:
        client.predict(image, top_k=1)
    assert not isinstance(raised.value, NoServer)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- A TorchServe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_an_image_has_as_many_classes_as_asked_for_the_most_probable_first(
    client: Client, photograph: str, top_k: int
) -> None:
    classes = client.predict(photograph, top_k)
    assert len({entry["index"] for entry in classes}) == top_k
    probabilities = [entry["probability"] for entry in classes]
    assert probabilities == sorted(probabilities, reverse=True)


def test_answers_come_in_the_order_of_the_images_whatever_happens_to_one(
    client: Client, photographs: list[Path], tmp_path: Path
) -> None:
    """Twenty-two images: more than the number of simultaneous calls."""
    images = [str(photograph) for photograph in photographs * 4]
    images[3:3] = [str(tmp_path / "gone.jpg")]
    images[11:11] = [str(tmp_path / "gone too.jpg")]
    alone = {str(photograph): client.predict(str(photograph), top_k=1)[0]["index"] for photograph in photographs}
    answers = list(client.predict_all(images, top_k=1))
    assert len(answers) == len(images)
    for image, answer in zip(images, answers, strict=True):
        if image in alone:
            assert isinstance(answer, list)
            assert [entry["index"] for entry in answer] == [alone[image]]
        else:
            assert str(answer) == f"{image}: No such file or directory"


@pytest.mark.parametrize("path", ["/", PREDICT, "/v2/models/alexnet/infer", "/docs"])
def test_the_url_may_have_a_path_of_the_servers(server: TorchServe, photograph: str, path: str) -> None:
    for url in (server.url + path, server.url.removeprefix("http://") + path):
        with Client(url, MODEL_NAME) as client:
            assert len(client.predict(photograph, top_k=2)) == 2


def test_further_headers_reach_the_server(website: Any, photograph: str) -> None:
    website.put(PREDICT, b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.5}]}]}')
    given = {"host": "alexnet.example.com", "authorization": "Bearer token", "x-api-key": "key"}
    with Client(website.url, MODEL_NAME, given) as client:
        client.predict(photograph, top_k=1)
    assert {name: website.headers[name] for name in given} == given
    assert website.headers["Content-Type"] == "application/json"


# --- Which model ------------------------------------------------------------------------------------------------------


def found(website: Any, path: str = "") -> str:
    with Client(website.url + path, MODEL_NAME, {"host": "a.example"}) as client:
        client.find_model()
        return client.address.model


def test_a_server_is_asked_for_its_model(website: Any) -> None:
    website.put("/v1/models", b'{"models": ["pets"]}')
    assert found(website) == "pets"
    assert website.headers["Host"] == "a.example"
    website.put("/serving/v1/models", b'{"models": ["res-net.v2"]}')
    assert found(website, "/serving/v2") == "res-net.v2"


@pytest.mark.parametrize("path", ["/v1/models/cats:predict", "/v2/models/cats/infer"])
def test_it_is_not_asked_where_the_url_names_one(website: Any, path: str) -> None:
    assert found(website, path) == "cats"
    assert website.asked == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"models": ["pets"]}', 404),
        (b'{"models": ["pets"]}', 302),
        (b'{"models": ["pets", "cats"]}', 200),
        (b'{"models": []}', 200),
        (b'{"models": "p"}', 200),
        (b'{"models": [{"name": "pets"}]}', 200),
        (b'{"models": ["../pets"]}', 200),
        (b'{"models": ["a b"]}', 200),
        (b'{"models": [5]}', 200),
        (b"[1]", 200),
        (b"null", 200),
        (b"[" * 100_000, 200),
        (b"<html>", 200),
        (b"", 200),
        (b"\xff", 200),
    ],
)
def test_where_it_tells_no_single_one_the_model_is_alexnet(website: Any, body: bytes, status: int) -> None:
    """A gateway may let only predict calls through."""
    website.put("/v1/models", body, status)
    assert found(website) == MODEL_NAME


def test_where_nobody_answers_the_model_is_alexnet(free_port: int) -> None:
    with Client(f"http://127.0.0.1:{free_port}", MODEL_NAME) as client:
        client.find_model()
        assert client.address.model == MODEL_NAME


@pytest.mark.parametrize(
    ("url", "headers", "openly"),
    [
        ("http://a.example", {"authorization": "Bearer t"}, True),
        ("http://10.0.0.1", {"x-api-key": "k"}, True),
        ("http://me:secret@a.example", {}, True),  # pragma: allowlist secret
        ("http://a.example", {"host": "b.example"}, False),
        ("https://a.example", {"authorization": "Bearer t"}, False),
        ("http://127.0.0.1:8080", {"authorization": "Bearer t"}, False),
        ("localhost:8080", {"authorization": "Bearer t"}, False),
    ],
)
def test_a_secret_that_anybody_on_the_way_can_read_is_noticed(url: str, headers: dict[str, str], openly: bool) -> None:
    with Client(url, MODEL_NAME, headers) as client:
        assert bool(client.warning) == openly


def test_a_name_in_the_url_is_sent_but_not_shown(website: Any, photograph: str) -> None:
    url = website.url.replace("http://", "http://me:secret@")  # pragma: allowlist secret
    website.put(PREDICT, b"{}")
    with Client(url, MODEL_NAME) as client:
        assert "secret" not in refusal(client, photograph)
    assert website.headers["Authorization"] == "Basic bWU6c2VjcmV0"
    with pytest.raises(PipelineError, match=r"^--url has a name or password, and a token or header was given too"):
        Client(url, MODEL_NAME, {"authorization": "Bearer token"})


def test_loopback_is_reached_without_the_proxy(
    server: TorchServe, photograph: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    with Client(server.url, MODEL_NAME) as client:
        assert len(client.predict(photograph, top_k=1)) == 1


# --- Images that cannot be classified ---------------------------------------------------------------------------------


def test_a_missing_file_is_named(client: Client, tmp_path: Path) -> None:
    assert refusal(client, str(tmp_path / "gone.jpg")) == f"{tmp_path / 'gone.jpg'}: No such file or directory"


def test_a_folder_is_named(client: Client, tmp_path: Path) -> None:
    assert refusal(client, str(tmp_path)) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_file_that_is_no_image_is_refused_in_the_servers_words(
    client: Client, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert refusal(client, str(tmp_path / "a.jpg")).startswith(
        f"{tmp_path / 'a.jpg'}: 400: instances[0].b64: not an image ("
    )


def test_a_url_that_the_server_may_not_fetch_is_told_with_the_setting(server: TorchServe) -> None:
    image = "https://example.invalid/kitten.jpg"
    with Client(server.url, MODEL_NAME, picture=lambda url: url) as client:
        said = refusal(client, image)
    assert said.startswith(f"{image}: 403: instances[0].url: not fetched: ")
    assert "the server's setting handler.url.allowed_hosts (handler/model-config.yaml) names" in said


def test_a_file_that_is_too_large_is_told_so(client: Client, checkout: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    limit = settings["handler"]["limits"]["max_image_bytes"]
    image = tmp_path / "large.jpg"
    image.write_bytes(bytes(limit + 1))
    assert refusal(client, str(image)) == f"{image}: 413: instances[0].b64: more than {limit} bytes"
    image.write_bytes(bytes(2 * limit))  # here the front door refuses, before the handler sees anything
    assert refusal(client, str(image)) == f"{image}: 413: body: more than {16 * 1024 * 1024} bytes"


# --- No server, or another one ----------------------------------------------------------------------------------------


def test_where_nothing_listens_there_is_no_server(free_port: int, photograph: str) -> None:
    with Client(f"http://127.0.0.1:{free_port}", MODEL_NAME) as client:
        with pytest.raises(NoServer) as raised:
            client.predict(photograph, top_k=1)
        assert str(raised.value) == (
            f"no server at http://127.0.0.1:{free_port}: start one with scripts/serve.sh, or give --url"
        )
        with pytest.raises(NoServer):
            list(client.predict_all([photograph] * 20, top_k=1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'{"predictions": []}',
        b'{"predictions": [[0.1, 0.9]]}',
        b'{"predictions": [{"tabby": 0.4}]}',
        b'{"predictions": [{"classes": 3}]}',
        b'{"predictions": [{"classes": ["tabby"]}]}',
        b'{"predictions": [{"classes": {"tabby": 0.4}}]}',
        b'{"predictions": [{"classes": [{"label": "tabby"}]}]}',
        b'{"predictions": [{"classes": [{"label": 3, "probability": "0.4"}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": "0.4"}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": true}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": NaN}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": 1e400}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": -0.1}]}]}',
        b'{"predictions": [{"classes": [{"label": "tabby", "probability": ' + b"9" * 400 + b"}]}]}",
        *(
            b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.4, %s}]}]}' % each
            for each in (
                b'"index": NaN',
                b'"index": -Infinity',
                b'"index": 1e400',
                b'"index": 0.5',
                b'"index": -1',
                b'"index": true',
                b'"index": "281"',
                b'"index": ' + b"9" * 400,
                b'"index": ' + b"9" * 5000,
                b'"index": ' + b"[" * 500 + b"]" * 500,
                b'"wnid": 2123045',
                b'"wnid": ["n02123045"]',
            )
        ),
        b'{"predictions": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"predictions": [{"classes": []}]}',
        b'{"predictions": [{"classes": {}}]}',
        b'{"predictions": [{"classes": ""}]}',
        b'{"predictions": [' + b'{"classes": [{"label": "tabby", "probability": 0.4}]},' * 2 + b"{}]}",
    ],
)
def test_an_answer_that_is_not_this_models_is_told_so(website: Any, photograph: str, body: bytes) -> None:
    website.put(PREDICT, body)
    with Client(website.url, MODEL_NAME) as client:
        assert refusal(client, photograph) == (
            f"{photograph}: {website.url} does not answer like this model: is it another server?"
        )


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b'{"error": "a defect"}', "500: a defect"),
        (503, b'{"code": 503, "type": "ServiceUnavailable", "message": "busy"}', "503: busy"),
        (400, b'["no object"]', "400: Bad Request"),
        (400, b'{"error": {"message": "busy"}}', "400: {'message': 'busy'}"),
        (500, json.dumps({"message": "Traceback:\n  line 1\n  line 2"}).encode(), "500: Traceback: line 1 line 2"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_in_one_line(
    website: Any, photograph: str, status: int, body: bytes, sentence: str
) -> None:
    website.put(PREDICT, body, status)
    with Client(website.url, MODEL_NAME) as client:
        assert refusal(client, photograph) == f"{photograph}: {sentence}"


def test_what_an_answer_has_beside_its_classes_is_left_out(website: Any, photograph: str) -> None:
    """Of any depth: Python can read some JSON that it cannot write."""
    deep = b"[" * 300 + b"]" * 300
    known = b'"index": 281, "wnid": null, "label": "tabby", "probability": 0.4'
    website.put(PREDICT, b'{"predictions": [{"classes": [{%s, "also": %s, "\\ud800": NaN}]}]}' % (known, deep))
    with Client(website.url, MODEL_NAME) as client:
        assert client.predict(photograph, 1) == [{"index": 281, "label": "tabby", "probability": 0.4}]


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            f"text/plain; charset={name}"
            for name in ("rot13", "undefined", "idna", "base64", "utf-7", "none", "\x9b2J")
        ),
        "text/html\x80",
        "\xfc",
    ],
)
def test_whatever_a_server_says_of_its_words_they_are_told(website: Any, photograph: str, content_type: str) -> None:
    website.put(PREDICT, b"+//// \xff, not HTTPS?", 400, **{"Content-Type": content_type, "Server": "\xfc\x9b"})
    with Client(website.url, MODEL_NAME) as client:
        assert refusal(client, photograph).startswith(f"{photograph}: 400: Bad Request: {website.url[7:]} speaks HTTPS")
    website.put(PREDICT, b"{}", 200, **{"Content-Type": content_type, "Server": "\xfc\x9b"})
    with Client(website.url, MODEL_NAME) as client:
        assert refusal(client, photograph).startswith(f"{photograph}: {website.url} ")


@pytest.mark.parametrize("status", [429, 503])
def test_a_limit_of_calls_is_told_from_other_refusals(website: Any, photograph: str, status: int) -> None:
    website.put(PREDICT, b'{"error": "calls: too many"}', status)
    with Client(website.url, MODEL_NAME) as client, pytest.raises(NotClassified) as raised:
        client.predict(photograph, 1)
    assert isinstance(raised.value, TooManyCalls) == (status == 429)


def test_an_answer_that_breaks_off_is_told_so(website: Any, photograph: str) -> None:
    website.put(PREDICT, b"{", **{"Content-Length": "100"})
    with Client(website.url, MODEL_NAME) as client:
        assert refusal(client, photograph).startswith(f"{photograph}: the connection to {website.url} broke off (")


@pytest.mark.parametrize("proxy", ["http://proxy.invalid:port", "ftp://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_told_so(
    proxy: str, photograph: str, user_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(PipelineError, match="proxy"), Client("http://example.invalid", MODEL_NAME) as client:
        client.predict(photograph, top_k=1)
