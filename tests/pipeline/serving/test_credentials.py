"""Headers and tokens: which are accepted, and that no message contains a secret."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.serving.credentials import MOST_BYTES, headers, identity_token, token_in, token_of
from pipeline.shared.errors import PipelineError


def refusal(*said: str) -> str:
    with pytest.raises(PipelineError) as raised:
        headers(said)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ([], {}),
        (["Host: alexnet.example.com"], {"host": "alexnet.example.com"}),
        (["Host:alexnet.example.com"], {"host": "alexnet.example.com"}),
        (["X-Empty:"], {"x-empty": ""}),
        (["Cookie: a=b; c=d:e"], {"cookie": "a=b; c=d:e"}),
        (["Host: a", "x-api-key: k"], {"host": "a", "x-api-key": "k"}),
        (["Host: a", "HOST: b"], {"host": "b"}),
    ],
)
def test_a_header_is_taken_as_curl_takes_it(said: list[str], taken: dict[str, str]) -> None:
    assert headers(said) == taken


@pytest.mark.parametrize(
    "said",
    [
        "secret",
        "",
        ": secret",
        "a b: secret",
        "a: secret\r\nb: c",
        "a: secret\n",
        "a: sécret",
        "é: secret",
        "a: \x00secret",
    ],
)
def test_what_is_no_header_is_told_without_its_value(said: str) -> None:
    sentence = refusal("Host: a", said)
    assert sentence.startswith("--header number 2 is not a header: expected 'Name: value'")
    assert "secret" not in sentence


@pytest.mark.parametrize("name", ["Content-Type", "content-length", "Content-Encoding", "Transfer-Encoding"])
def test_a_header_of_the_body_is_not_taken(name: str) -> None:
    assert refusal(f"{name}: 1") == f"--header number 1 is {name}, which this command sets itself: remove it"


def test_a_file_has_a_header_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("x-api-key: secret\n\nCookie: a=b\r\n")
    assert headers(["Host: a", f"@{file}"]) == {"host": "a", "x-api-key": "secret", "cookie": "a=b"}
    file.write_text("Host: a\nsecret\n")
    assert refusal(f"@{file}").startswith(f"{file}, line 2 is not a header: ")


@pytest.mark.parametrize(
    "said", ["abc.def-_~+/=", "  abc.def-_~+/=\n", "Bearer abc.def-_~+/=", "Authorization: bearer abc.def-_~+/=\r\n"]
)
def test_a_token_is_taken_as_it_is_copied(said: str, tmp_path: Path) -> None:
    assert token_of(said, "--token") == "abc.def-_~+/="
    (tmp_path / "token").write_text(said)
    assert token_in(tmp_path / "token") == "abc.def-_~+/="


def test_a_token_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n", encoding="utf-8-sig")
    assert token_in(tmp_path / "token") == "abc"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", " is empty"),
        (b"\n", " is empty"),
        (b"Bearer \n", " is empty"),
        (b"sec ret", " is not a token"),
        (b"sec\nret", " is not a token"),
        ("sécret".encode(), " is not a token"),
        (b"\xff\xfesecret", " is not text"),
        (b"x" * (MOST_BYTES + 1), f" has more than {MOST_BYTES} bytes"),
        (None, ": No such file or directory"),
    ],
)
def test_what_is_no_token_is_told_without_it(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PipelineError) as raised:
        token_in(file)
    assert str(raised.value).startswith(f"{file}{sentence}")
    assert "sec" not in str(raised.value).removeprefix(str(file))


def test_a_device_without_end_is_no_token() -> None:
    with pytest.raises(PipelineError, match=r"^/dev/zero has more than "):
        token_in(Path("/dev/zero"))


# --- gcloud -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for gcloud, whose token needs a Google account."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder / "gcloud"


def put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_an_identity_token_comes_from_gcloud(gcloud: Path) -> None:
    put(gcloud, 'echo "$*" | tr " " _')
    assert identity_token(None) == "auth_print-identity-token_--quiet"
    assert identity_token("https://a.example") == "auth_print-identity-token_--quiet_--audiences=https://a.example"


def test_gclouds_own_reason_is_told_in_a_line(gcloud: Path) -> None:
    put(gcloud, "printf 'ERROR: (gcloud.auth) no\\n  account\\n\\nTo log in, run\\n' >&2; exit 1")
    with pytest.raises(PipelineError) as raised:
        identity_token(None)
    said = "gcloud printed no identity token ((gcloud.auth) no account): run gcloud auth login"
    assert str(raised.value) == said


def test_gclouds_advice_without_its_end_is_left_out(gcloud: Path) -> None:
    put(gcloud, "printf 'ERROR: no active account selected.\\nPlease run:\\n\\n  $ gcloud auth login\\n' >&2; exit 1")
    with pytest.raises(PipelineError) as raised:
        identity_token(None)
    assert str(raised.value) == "gcloud printed no identity token (no active account selected.): run gcloud auth login"


def test_without_gcloud_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match=r"^gcloud is not installed: install it, or give --token-file FILE$"):
        identity_token(None)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not on this machine")
def test_the_real_gcloud_without_an_account_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(PipelineError) as raised:
        identity_token(None)
    assert str(raised.value).startswith("gcloud printed no identity token (")
    assert "\n" not in str(raised.value)
