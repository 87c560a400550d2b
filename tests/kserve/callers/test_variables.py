"""The variables that say who may call: Envoy accepts valid ones, and wrong ones are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import has_envoy
from server.door import find_envoy, settings
from server.errors import NotServed
from server.folder import Address
from tests.kserve.callers.service import (
    ISSUER,
    Issuer,
)

pytestmark = pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks who may ask")


GOOD = {
    "CORS_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,http://[::1]:80",
    "JWT_ISSUER": ISSUER,
    "JWT_AUDIENCES": "a,b c",
    "JWT_JWKS_URI": "https://issuer.example/keys",
    "RATE_LIMIT_PER_CLIENT": "1",
    "RATE_LIMIT_PER_POD": "1000000",
}
BAD = {
    "CORS_ALLOWED_ORIGINS": [
        "a.example",
        "https://a.example/",
        "https://*.example",
        "null",
        "https://A.example",
        "https://a.example:",
        "ftp://a",
        "'",
    ],
    "API_KEYS": ["/nowhere", "sk-a-key-itself"],
    "JWT_ISSUER": ["https://a b", "ü"],
    "JWT_JWKS_URI": [
        "http://a.example/k",
        "https://",
        "https://10.0.0.1/k",
        "https://a:99999/",
        "https://u@a.example/",
    ],
    "JWT_JWKS_FILE": ["/nowhere", "/dev/null"],
    "RATE_LIMIT_PER_CLIENT": ["0", "-1", "1.5", "many", "1000001", "١"],
    "RATE_LIMIT_PER_POD": ["0"],
}


def valid(text: str, folder: Path) -> bool:
    """Whether Envoy accepts it."""
    file = folder / "envoy.yaml"
    file.write_text(text)
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def filled_in(folder: Path, name: str = MODEL_NAME) -> str:
    return settings(folder, (name, "1.2"), Address("127.0.0.1", 8080), 8081)


@pytest.mark.parametrize("left_out", [None, *GOOD])
def test_envoy_accepts_each_combination(left_out: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in GOOD.items():
        if name != left_out and not (left_out and left_out.startswith("JWT_") and name.startswith("JWT_")):
            monkeypatch.setenv(name, value)
    assert valid(filled_in(tmp_path), tmp_path)


def test_envoy_accepts_a_long_name_and_many_origins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It refuses patterns above a size unless the limit is raised."""
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", ",".join(f"https://{number}.page.example" for number in range(200)))
    assert valid(filled_in(tmp_path, "n" * 200), tmp_path)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_an_invalid_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NotServed, match=f"^{name}") as raised:
        filled_in(tmp_path)
    assert "\n" not in str(raised.value)
    if name == "API_KEYS":
        assert value not in str(raised.value), "it may be a key, in the wrong place"


@pytest.mark.parametrize("missing", ["JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI"])
def test_half_of_what_tokens_need_is_refused(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in {"JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI"} - {missing}:
        monkeypatch.setenv(name, GOOD[name])
    with pytest.raises(NotServed, match=f"^{missing}.*must be set too"):
        filled_in(tmp_path)


def test_token_keys_have_only_one_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(Issuer().jwks())
    for name, value in (GOOD | {"JWT_JWKS_FILE": str(tmp_path / "jwks.json")}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotServed, match="JWT_JWKS_URI and JWT_JWKS_FILE"):
        filled_in(tmp_path)


def test_without_envoy_a_guarded_service_does_not_start(light_directory: Path, checkout: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout / "kserve" / "runtime"), "FRONT_DOOR": "none"}
    environment |= {"API_KEYS": str(tmp_path), "RATE_LIMIT_PER_POD": "9", "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "server", str(light_directory)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["message"].startswith("API_KEYS, RATE_LIMIT_PER_POD: only Envoy can do that")
