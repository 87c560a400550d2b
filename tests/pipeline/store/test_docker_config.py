"""Credentials for a registry are docker's, wherever it stores them, and never appear in a message."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pipeline.shared.errors import PipelineError
from pipeline.store.oci.docker_config import Credentials, credentials_for

pytest_plugins = ["tests.support.oci_registry"]

REGISTRY = "europe-west1-docker.pkg.dev"
NOTED = {"auth": base64.b64encode(b"me:se:cret").decode()}


def note(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker-credential-test, which the test still has to write."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path / "bin" / "docker-credential-test"


def write(helper: Path, *lines: str) -> None:
    helper.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    helper.chmod(0o755)


def refusal() -> str:
    with pytest.raises(PipelineError) as refused:
        credentials_for(REGISTRY)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    return str(refused.value)


def test_where_docker_has_no_configuration_there_are_none(no_docker: Path) -> None:
    assert credentials_for(REGISTRY) is None


@pytest.mark.parametrize("key", [REGISTRY, f"https://{REGISTRY}", f"https://{REGISTRY}/v1/"])
def test_docker_login_is_heeded(no_docker: Path, key: str) -> None:
    note(no_docker, {"auths": {"other.example": {"auth": "eDp5"}, key: NOTED}})
    assert credentials_for(REGISTRY) == Credentials("me", "se:cret")
    assert credentials_for(f"{REGISTRY}:5000") is None


def test_without_a_variable_it_is_in_the_home(no_docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    note(tmp_path / ".docker" / "config.json", {"auths": {REGISTRY: NOTED}})
    assert credentials_for(REGISTRY) is not None


@pytest.mark.parametrize("content", [{"credHelpers": {REGISTRY: "test"}, "auths": {}}, {"credsStore": "test"}])
def test_a_helper_is_asked(no_docker: Path, helper: Path, tmp_path: Path, content: object) -> None:
    note(no_docker, content)
    write(helper, f'[ "$1" = get ] && cat > {tmp_path}/asked && echo \'{{"Username": "u", "Secret": "p"}}\'')
    assert credentials_for(REGISTRY) == Credentials("u", "p")
    assert (tmp_path / "asked").read_text() == REGISTRY


def test_a_helper_that_has_none_gives_none(no_docker: Path, helper: Path) -> None:
    note(no_docker, {"credsStore": "test"})
    write(helper, "echo credentials not found in native keychain; exit 1")
    assert credentials_for(REGISTRY) is None


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["echo no gcloud login >&2; exit 1"], "docker-credential-test gives no credentials for"),
        (["echo secret"], "gives unreadable credentials for europe-west1-docker.pkg.dev"),
        (["echo '[\"secret\"]'"], "gives unreadable credentials for europe-west1-docker.pkg.dev"),
        (  # pragma: allowlist secret
            ['echo \'{"Username": "<token>", "Secret": "secret"}\''],  # pragma: allowlist secret
            "docker has stored an identity token for",
        ),
    ],
)
def test_a_helper_that_fails_is_told(no_docker: Path, helper: Path, lines: list[str], reason: str) -> None:
    note(no_docker, {"credHelpers": {REGISTRY: "test"}})
    write(helper, *lines)
    assert reason in refusal()


def test_a_helper_that_is_not_there_is_told(no_docker: Path) -> None:
    note(no_docker, {"credHelpers": {REGISTRY: "not-there"}})
    assert "docker-credential-not-there" in refusal()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"credHelpers": {REGISTRY: "../../secret"}},
        {"auths": {REGISTRY: {"auth": "secret"}}},
        {"auths": {REGISTRY: {"auth": base64.b64encode(b"secret").decode()}}},
        {"auths": {REGISTRY: {"identitytoken": "secret"}}},
    ],
)
def test_what_cannot_be_read_is_told(no_docker: Path, content: object) -> None:
    note(no_docker, content)
    sentence = refusal() if "../" not in str(content) else "docker"
    assert "docker" in sentence


def test_a_password_is_not_shown_with_them() -> None:
    assert "secret" not in repr(Credentials("me", "secret"))
