"""Which Cloud Storage is asked: a variable for tests, set by accident, leads elsewhere, and that is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.shared.errors import PipelineError
from pipeline.store import bucket
from pipeline.store.bucket import connect, list_blobs
from pipeline.store.explanations import READER, explained, explanation
from pipeline.store.storage_uri import StorageUri

URI = StorageUri.parse("gs://models/alexnet")


@pytest.fixture(autouse=True)
def nothing_is_told_yet(user_environment: None, no_credentials: None) -> None:
    bucket._tell_of_emulator.cache_clear()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://emulator.example:4443", "emulator.example:4443"),
        ("emulator.example:4443", "emulator.example:4443"),
        ("http://10.0.0.7", "10.0.0.7"),
        ("http://me:secret@emulator.example/x", "emulator.example"),  # pragma: allowlist secret
        ("http://a\x1bc.example", "a\\x1bc.example"),
    ],
)
def test_an_emulator_on_another_machine_is_told_once(
    said: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", said)
    for _ in range(2):
        bucket._tell_of_emulator(said)
    assert capsys.readouterr().err == (f"STORAGE_EMULATOR_HOST is set: gs:// means {shown}, and not Cloud Storage\n")


@pytest.mark.parametrize("said", ["", "http://127.0.0.1:4443", "localhost:4443", "http://[::1]:4443"])
def test_of_one_on_this_machine_nobody_wonders(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", said)
    bucket._tell_of_emulator(said)
    assert capsys.readouterr().err == ""


def test_whoever_connects_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://emulator.example")
    connect()
    assert "STORAGE_EMULATOR_HOST is set" in capsys.readouterr().err
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://[")
    with pytest.raises(PipelineError, match=r"^STORAGE_EMULATOR_HOST is set, and what it says is no URL: unset it$"):
        connect()


def test_where_it_cannot_be_reached_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    said = str(explanation(ConnectionError("Connection refused"), URI, READER))
    assert said.endswith("; STORAGE_EMULATOR_HOST is set, and leads elsewhere")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    assert "STORAGE_EMULATOR_HOST" not in str(explanation(ConnectionError("Connection refused"), URI, READER))


BLOB = {"name": "alexnet/a", "size": "5", "timeCreated": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[1, 2]",
        b'{"items": [null]}',
        b'{"items": "\\u001b[2J"}',
        *(
            json.dumps({"items": [BLOB | wrong]}).encode()
            for wrong in ({"size": "\x1b[2J"}, {"size": None}, {"name": 5}, {"timeCreated": "x"}, {"timeCreated": None})
        ),
    ],
)
def test_what_is_not_cloud_storage_is_told_so_in_a_line(
    body: bytes, website: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that asks to log in, say."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", website.url)
    website.put(
        "/storage/v1/b/models/o", json.dumps({"items": [BLOB]}).encode(), **{"Content-Type": "application/json"}
    )
    assert [blob.name for blob in list_blobs(connect(), URI)] == ["alexnet/a"]
    website.put("/storage/v1/b/models/o", body, **{"Content-Type": "application/json"})
    with pytest.raises(PipelineError) as raised, explained(URI, READER):
        list_blobs(connect(), URI)
    assert str(raised.value) == (
        "what answers for gs://models is not Cloud Storage: check HTTPS_PROXY, and STORAGE_EMULATOR_HOST"
    )


def test_a_redirect_to_what_is_no_url_is_told_so_too(website: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", website.url)
    website.put("/storage/v1/b/models/o", b"", 302, Location="http://[")
    with pytest.raises(PipelineError, match="is not Cloud Storage"), explained(URI, READER):
        list_blobs(connect(), URI)
