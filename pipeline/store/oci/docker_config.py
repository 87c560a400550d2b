"""Credentials for a registry: those that `docker login` or `gcloud auth configure-docker` stored for this user.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.shared.errors import PipelineError
from pipeline.shared.text import one_line

HELPER = re.compile(r"[\w.-]+", re.ASCII)
HELPER_TIMEOUT_S = 60
IDENTITY_TOKEN = "<token>"  # noqa: S105  # nosec B105: a helper gives it instead of a user name
MOST_BYTES = 1_000_000


class Credentials(NamedTuple):
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials of {self.user}"


def credentials_for(registry: str) -> Credentials | None:
    """Those for HOST[:PORT], or None if there are none. Raises PipelineError if they cannot be used."""
    file = _file()
    config = _read(file)
    helpers, entries = _table(config, "credHelpers"), _table(config, "auths")
    if helper := helpers.get(registry):
        return _from_helper(str(helper), registry, file)
    entry = next((entry for key, entry in entries.items() if _host(key) == registry), None)
    if isinstance(entry, dict) and (found := _noted(entry, registry, file)):
        return found
    if store := config.get("credsStore"):
        return _from_helper(str(store), registry, file)
    return None


def _file() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    try:
        return Path(folder or "~/.docker").expanduser() / "config.json"
    except RuntimeError:  # this user has no home
        return Path("/nonexistent/config.json")


def _read(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            config = json.loads(opened.read(MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise PipelineError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise PipelineError(f"{file} is not a configuration of docker: correct or remove it")
    return config


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _host(key: str) -> str:
    """Docker also stores registries as URLs."""
    return re.sub(r"^https?://", "", key).partition("/")[0]


def _noted(entry: dict[str, Any], registry: str, file: Path) -> Credentials | None:
    if entry.get("identitytoken"):
        raise _IdentityToken(registry)
    if not entry.get("auth"):
        return None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise PipelineError(f"{file} has unreadable credentials for {registry}: run docker login {registry}")
    return Credentials(user, password.rstrip("\0"))


def _from_helper(name: str, registry: str, file: Path) -> Credentials | None:
    program = f"docker-credential-{name}"
    if not HELPER.fullmatch(name):
        raise PipelineError(f"{file} names an invalid credential helper: {name!r}")
    try:
        done = subprocess.run(
            [program, "get"], input=registry, capture_output=True, text=True, errors="replace", timeout=HELPER_TIMEOUT_S
        )
    except FileNotFoundError:
        raise PipelineError(
            f"{file} says that {program} has the credentials for {registry}, but there is no such program: install it"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"no answer within {HELPER_TIMEOUT_S} s"
        raise PipelineError(f"{program}, which has the credentials for {registry}, cannot be run: {why}") from None
    if done.returncode != 0:
        said = one_line(done.stdout or done.stderr)
        if "credentials not found" in said:
            return None
        raise PipelineError(f"{program} gives no credentials for {registry}: {said or 'it said nothing'}")
    try:
        found = json.loads(done.stdout)
        user, password = found["Username"], found["Secret"]
    except (ValueError, LookupError, TypeError):
        raise PipelineError(f"{program} gives unreadable credentials for {registry}") from None
    if user == IDENTITY_TOKEN:
        raise _IdentityToken(registry)
    return Credentials(str(user), str(password))


class _IdentityToken(PipelineError):
    def __init__(self, registry: str) -> None:
        super().__init__(
            f"docker has stored an identity token for {registry}, which is not supported: "
            f"run docker login {registry} with a user and a password or access token"
        )
