"""Bad requests over HTTP, with good ones beside them: each refused with its place, and nobody else notices."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability import bombs, corpus
from reliability.pictures import base64_text, encoded, gradient

JSON, JPEG = {"Content-Type": "application/json"}, {"Content-Type": "image/jpeg"}
HANG_S = 60  # no answer by then is a hang
LIMIT = 10 * 1024 * 1024
BESIDE = 6  # good requests in flight with each bad one
GROWTH = 150 << 20  # bytes that a worker may have kept after all of this: 60 were seen, free and not given back
JAVA_GROWTH = 400 << 20  # a heap grows until it is collected

IMAGE = encoded(gradient(), "JPEG")
TEXT = base64_text(IMAGE)
BOMBS = tuple(bombs.BOMBS)


def one(instance: Any) -> bytes:
    return json.dumps({"instances": [instance]}).encode()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    return buffer.getvalue()


def gif_and_script() -> bytes:
    """`GIF89a/*` begins a comment in JavaScript: the screen is 10,799 wide, and one high."""
    return b"GIF89a/*\x01\0" + encoded(Image.new("P", (10_799, 1)), "GIF")[10:] + b"*/=1;alert(1)"


JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    "text": (b'"text"', 400, "body: "),
    "a list": (b"[1, 2]", 400, "body: "),
    "null": (b"null", 400, "body: "),
    "NaN": (b"NaN", 400, "body: "),
    "NaN as instances": (b'{"instances": NaN}', 400, "instances: "),
    "NaN as an instance": (b'{"instances": [NaN]}', 400, "instances[0]: "),
    "no instances": (b"{}", 400, "instances: "),
    "empty instances": (b'{"instances": []}', 400, "instances: "),
    "a thousand instances": (b'{"instances": [' + b"0," * 999 + b"0]}", 413, "instances: "),
    "a million instances": (b'{"instances": [' + b"0," * 999_999 + b"0]}", 413, "body: more than 10000 values"),
    "nested in itself": (b'{"instances": ' * 5_000, 400, "body: "),
    "nested in itself, very deeply": (b'{"instances": ' * 100_000, 413, "body: more than 10000 values"),
    "brackets": (b"[" * 5_000_000, 413, "body: more than 10000 values"),
    "lists of lists": (b'{"instances": [' + b"[[]]," * 3_000_000 + b"0]}", 413, "body: more than 10000 values"),
    "a long number": (b'{"instances": ' + b"1" * 1_000_000 + b"}", 400, "body: "),
    "NUL bytes": (bytes(1000), 400, "body: "),
    "a NUL in a key": (b'{"instances": [{"b64\\u0000": "AAAA"}]}', 400, "instances[0]: "),
    "a NUL in base64": (b'{"instances": [{"b64": "AA\\u0000A"}]}', 400, "instances[0].b64: "),
    "a lone surrogate": (b'{"instances": [{"b64": "\\ud800"}]}', 400, "instances[0].b64: "),
    "a lone surrogate as a key": (b'{"\\udfff": 1}', 400, "instances: "),
    "UTF-16": ('{"instances": [5]}'.encode("utf-16"), 400, "instances[0]: "),  # which JSON's reader understands
    "not UTF-8": (b'{"instances": ["\xff\xfe"]}', 400, "body: "),
    "URL-safe base64": (one({"b64": TEXT.replace("/", "_").replace("+", "-")}), 400, "instances[0].b64: "),
    "no padding": (one({"b64": TEXT.rstrip("=") + "A" * (4 - len(TEXT.rstrip("=")) % 4) + "A"}), 400, "instances[0]"),
    "padding within": (one({"b64": "QQ==" + TEXT}), 400, "instances[0].b64: "),
    "the second is wrong": (json.dumps({"instances": [{"b64": TEXT}, {"b64": 5}]}).encode(), 400, "instances[1].b64: "),
    "a URL": (one({"url": "http://169.254.169.254/\r\nX: y"}), 403, "instances[0].url: "),
    "parameters": (b'{"instances": [0], "parameters": {"top_k": 1e99}}', 400, "parameters.top_k: "),
    "line breaks in a key": (b'{"instances": [{"\\r\\nERROR forged\\u001b[31m": 1}]}', 400, "instances[0]: "),
}  # fmt: skip

IMAGES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "half": (IMAGE[: len(IMAGE) // 2], 400),
    "a ZIP": (zipped(), 400),
    "a JPEG and a ZIP": (IMAGE + zipped(), 200),
    "a GIF and JavaScript": (gif_and_script(), 200),
    "JSON": (one({"b64": TEXT}), 400),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400),
    "1×1": (encoded(gradient(1, 1)), 200),
    "1×60000": (encoded(gradient(1, 60_000)), 200),
    "60000×1": (encoded(gradient(60_000, 1), "GIF"), 200),
    "at the limit of pixels": (encoded(Image.new("1", (50_000, 1000)), "PNG"), 200),
    "a row above the limit": (encoded(Image.new("1", (50_000, 1001)), "PNG"), 413),
    "at the limit of bytes": (IMAGE + bytes(LIMIT - len(IMAGE)), 200),
    "a byte above the limit": (IMAGE + bytes(LIMIT + 1 - len(IMAGE)), 413),
    "a byte below the limit": (IMAGE + bytes(LIMIT - 1 - len(IMAGE)), 200),
}


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Every line that the server logs."""
    return []


@pytest.fixture(scope="module")
def watched(directory: Path, said: list[str]) -> Iterator[TorchServe]:
    """A server of our own, whose log is kept, and whose workers are the same at the end, and no larger."""
    with TorchServe(directory, MODEL_NAME, Ports.any_free(), log=said.append) as running:
        httpx.post(running.predict_url, content=encoded(gradient(5000, 5000)), headers=JPEG, timeout=HANG_S)
        before = {process: process.memory_info().rss for process in running.processes()}
        yield running
        after = {process: process.memory_info().rss for process in running.processes()}
        assert after.keys() == before.keys()
        for process in before:
            assert after[process] - before[process] < (JAVA_GROWTH if process.name() == "java" else GROWTH), process


@pytest.fixture(scope="module")
def good(watched: TorchServe, photographs: list[Path]) -> list[tuple[bytes, bytes]]:
    """(image, its answer when it is alone)"""
    images = [photograph.read_bytes() for photograph in photographs]
    return [(image, _post(watched, image, JPEG).content) for image in images]


def _post(server: TorchServe, body: Any, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(server.predict_url, content=body, headers=headers, timeout=HANG_S, trust_env=False)


def refused(
    server: TorchServe, good: list[tuple[bytes, bytes]], body: bytes, headers: dict[str, str]
) -> httpx.Response:
    """The answer to a bad request, with good ones in flight, whose answers are what they are alone."""
    with ThreadPoolExecutor(BESIDE + 1) as pool:
        beside = [good[number % len(good)] for number in range(BESIDE)]
        asked = [pool.submit(_post, server, image, JPEG) for image, _ in beside[: BESIDE // 2]]
        bad = pool.submit(_post, server, body, headers)
        asked += [pool.submit(_post, server, image, JPEG) for image, _ in beside[BESIDE // 2 :]]
        for question, (_, alone) in zip(asked, beside, strict=True):
            assert question.result().status_code == 200
            assert question.result().content == alone
        return bad.result()


def error(response: httpx.Response) -> str:
    """The sentence of the one shape that errors have."""
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert body["error"].isprintable()
    return str(body["error"])


@pytest.mark.parametrize("name", JSON_BODIES)
def test_json(name: str, watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    body, status, place = JSON_BODIES[name]
    response = refused(watched, good, body, JSON)
    assert response.status_code == status
    assert error(response).startswith(place)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream"])
def test_images(name: str, content_type: str, watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    """Whatever the content type says, the bytes decide."""
    body, status = IMAGES[name]
    response = refused(watched, good, body, {"Content-Type": content_type})
    assert response.status_code == status
    if status != 200:
        assert error(response).startswith("body: ")


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    response = refused(watched, good, bombs.BOMBS[name](), JPEG)
    assert response.status_code in (200, 400, 413)
    if response.status_code != 200:
        assert error(response).startswith("body: ")


def test_mutants(watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    files = list(corpus.seeds().values())
    with ThreadPoolExecutor(16) as pool:
        images = [corpus.mutant(number, files) for number in range(300)]
        beside = [pool.submit(_post, watched, image, JPEG) for image, _ in good * 6]
        for response in pool.map(lambda image: _post(watched, image, JPEG), images):
            assert response.status_code in (200, 400, 413)
            if response.status_code != 200:
                assert error(response).startswith("body: ")
        for question, (_, alone) in zip(beside, good * 6, strict=True):
            assert question.result().content == alone


def test_of_two_equal_keys_the_last_counts(watched: TorchServe) -> None:
    """As Python's json has it, and JavaScript's."""
    body = f'{{"instances": 5, "instances": [{{"b64": "AAAA", "b64": "{TEXT}"}}]}}'
    assert _post(watched, body, JSON).status_code == 200


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_the_largest_body(over: int, watched: TorchServe) -> None:
    """TorchServe itself refuses one byte more, and says nothing of why: that cannot be set."""
    limit = 16_777_216
    response = _post(watched, b"{}" + b" " * (limit - 2 + over), JSON)
    assert response.status_code == (413 if over > 0 else 400)
    if over > 0:
        assert response.content == b""
    else:
        assert error(response).startswith("instances: ")


def test_chunked(watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    image, alone = good[0]
    pieces = (image[start : start + 777] for start in range(0, len(image), 777))
    assert _post(watched, pieces, JPEG).content == alone


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def _connection(server: TorchServe) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=HANG_S)


def test_an_upload_that_stays_away_holds_nobody_up(watched: TorchServe, good: list[tuple[bytes, bytes]]) -> None:
    """A few bytes, then nothing, on many connections; in the end the rest comes for one of them."""
    image, alone = good[0]
    head = (
        f"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
    )
    waiting = [_connection(watched) for _ in range(20)]
    try:
        for connection in waiting:
            connection.sendall(head.encode() + image[:100])
        for other, its in good:
            assert _post(watched, other, JPEG).content == its
        for at in range(100, len(image), 1000):
            waiting[0].sendall(image[at : at + 1000])
        assert _answer(waiting[0]) == (200, alone)
    finally:
        for connection in waiting:
            connection.close()


HOSTILE_HEADS = [
    b"POST /v1/models/alexnet%0aERROR%20forged:predict HTTP/1.1\r\nHost: x\r\n",
    b"POST /v1/models/alexnet%1b[31mforged:predict HTTP/1.1\r\nHost: x\r\n",
    b"POST /predictions/forged%0d%0aERROR HTTP/1.1\r\nHost: x\r\n",
    b"POST /predictions/alexnet/forged%0aERROR HTTP/1.1\r\nHost: x\r\n",
    b"GET /../../etc/forged HTTP/1.1\r\nHost: x\r\n",
    b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: forged\x1b[31m\r\n",
    b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nContent-Type: forged\x1b[2J/%0a\r\n",
    b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nforged\x1b[31m: 1\r\n",
    b"forged\x1b[31m /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\n",
]


@pytest.mark.parametrize("head", HOSTILE_HEADS)
def test_nothing_of_a_request_is_in_the_log(head: bytes, watched: TorchServe, said: list[str]) -> None:
    body = b'{"forged\\r\\nERROR forged": "forged", "instances": [{"forged\\u001b[31m": 1}]}'
    with _connection(watched) as connection:
        connection.sendall(head + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        status, _ = _answer(connection)
    assert 400 <= status < 500
    _post(watched, IMAGE, JPEG)  # what was to be said about the other has been said by now
    assert said[0].startswith("alexnet: ")  # it is a log
    logged = [line for line in said if "forged" in line or "\x1b" in line]
    assert logged == []


def test_bad_images_leave_no_line_in_the_log(watched: TorchServe, said: list[str]) -> None:
    before = len(said)
    for name in ("tiff fax", "tiff loop", "png pixels bomb"):
        _post(watched, bombs.BOMBS[name](), JPEG)
    tiff = encoded(gradient(), "TIFF", compression="tiff_lzw")
    _post(watched, tiff[:9] + struct.pack("<50I", *[2**32 - 1] * 50) + tiff[209:], JPEG)
    _post(watched, tiff[: len(tiff) // 2], JPEG)
    _post(watched, IMAGE, JPEG)
    assert said[before:] == []
