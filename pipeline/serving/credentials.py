"""Headers and tokens for a gateway. Secrets are best read from a file: `ps` shows command lines."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.shared.errors import BadHeader, CredentialsMissing
from pipeline.shared.text import one_line

MOST_BYTES = 65_536  # of a file: the server's limit for all headers
GCLOUD_TIMEOUT_S = 60

# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 and #section-5.5, in ASCII
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e]*")
TOKEN = re.compile(r"[\x21-\x7e]+")

OF_THE_BODY = ("content-type", "content-length", "content-encoding", "transfer-encoding")


def headers(said: Sequence[str]) -> dict[str, str]:
    """said: each `Name: value`, or `@FILE` with such lines, as for curl.

    Raises BadHeader, which never quotes a value, or CredentialsMissing if a file cannot be read.
    """
    lines: list[tuple[str, str]] = []
    for number, entry in enumerate(said, 1):
        if entry.startswith("@"):
            file = Path(entry[1:])
            text = _read(file, "a file of headers")
            lines += [(f"{file}, line {at}", line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
        else:
            lines.append((f"--header number {number}", entry))
    return dict(_header(where, line) for where, line in lines)


def _header(where: str, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(" "), value.strip(" \t")
    if not colon or not NAME.fullmatch(name) or not VALUE.fullmatch(value):
        raise BadHeader(where, "is not a header: expected 'Name: value', in ASCII, or @FILE with such lines")
    if name.lower() in OF_THE_BODY:
        raise BadHeader(where, f"is {name}, which this command sets itself: remove it")
    return name.lower(), value


def token_of(text: str, where: str) -> str:
    """A bearer token, with or without `Bearer ` before it. Raises CredentialsMissing."""
    token = re.sub(r"(?i)^(authorization:\s*)?bearer(\s+|$)", "", text.strip())
    if not TOKEN.fullmatch(token):
        what = "is empty" if not token else "is not a token: expected ASCII without spaces"
        raise CredentialsMissing(f"{where} {what}")
    return token


def token_in(file: Path) -> str:
    """Raises CredentialsMissing."""
    return token_of(_read(file, "a token"), str(file))


def identity_token(audience: str | None) -> str:
    """The token of the account that gcloud is logged in with. Raises CredentialsMissing."""
    command = ["gcloud", "auth", "print-identity-token", "--quiet"]
    if shutil.which(command[0]) is None:
        raise CredentialsMissing("gcloud is not installed: install it, or give --token-file FILE")
    if audience is not None:
        command.append(f"--audiences={audience}")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GCLOUD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CredentialsMissing(f"gcloud did not print a token within {GCLOUD_TIMEOUT_S} s") from None
    except OSError as error:
        raise CredentialsMissing(f"gcloud cannot be started ({error.strerror})") from None
    if done.returncode:
        # Its message may run over many lines; the first paragraph is the cause.
        said = one_line(done.stderr.strip().partition("\n\n")[0].removeprefix("ERROR: "))
        said = said.removesuffix(" Please run:")
        raise CredentialsMissing(f"gcloud printed no identity token ({said}): run gcloud auth login")
    return token_of(done.stdout, "what gcloud printed")


def _read(file: Path, what: str) -> str:
    try:
        with open(file, "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise CredentialsMissing(f"{file}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise CredentialsMissing(f"{file} has more than {MOST_BYTES} bytes: it is not {what}")
    try:
        return content.decode("utf-8-sig")  # some editors begin files with a byte order mark
    except UnicodeDecodeError:
        raise CredentialsMissing(f"{file} is not text: it is not {what}") from None
