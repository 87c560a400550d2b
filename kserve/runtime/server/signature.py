"""Checks that a trusted key or identity signed what will be served.

It is a Sigstore bundle with a DSSE envelope around an in-toto statement, as OpenSSF's model-signing writes it. That
library is not in the image: it needs 32 more packages than cryptography, including an HTTP client. Formats:
https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from server.errors import NotServed
from server.folder import CONFIG, Folder

SIGNATURE = "model.sig"
MOST_BYTES = 1_000_000  # of a signature's few thousand


class Signed(NamedTuple):
    """An envelope's content, after its signature was verified."""

    kind: str
    payload: bytes


class NotSigned(Exception):
    """Someone else signed it, or nobody; the message, if any, says why."""


class Trusted(Protocol):
    """Who may have signed; str() is for messages."""

    def verify(self, bundle: bytes) -> Signed:
        """Raises NotSigned, or one of Python's own errors if a part is missing or has the wrong type."""


def check_signature(root: Path, by: Trusted) -> Folder:
    """Raises NotServed unless `by` signed the settings, the archive that they name, and nothing else.

    Serve the returned folder; do not read the directory again.
    """
    signature = root / SIGNATURE
    try:
        with open(signature, "rb") as file:
            signed = _digests(by.verify(file.read(MOST_BYTES)))
        _compare(root, CONFIG, signed)
        folder = Folder(root)  # settings are read only after their signature is verified
        _compare(root, folder.archive, signed)
    except FileNotFoundError as error:
        raise NotServed(f"{error.filename} is missing: publish what scripts/package.sh --sign made") from None
    except OSError as error:
        raise NotServed(f"{error.filename} cannot be read ({error.strerror})") from None
    except (NotSigned, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f" ({error})" if isinstance(error, NotSigned) and str(error) else ""
        raise NotServed(f"{signature} is not a signature by {by}{why}") from None
    if more := sorted(signed.keys() - {CONFIG, folder.archive}):
        raise NotServed(f"{signature} covers more files than are served: {', '.join(more)}")
    return folder


def _digests(signed: Signed) -> dict[str, str]:
    """The names of the signed files, and their SHA-256. Raises one of Python's own errors if there are none."""
    statement: Any = json.loads(signed.payload)  # as signed
    said = (
        signed.kind,
        statement["_type"],
        statement["predicateType"],
        statement["predicate"]["serialization"]["method"],
    )
    if said != (
        "application/vnd.in-toto+json",
        "https://in-toto.io/Statement/v1",
        "https://model_signing/signature/v1.0",
        "files",
    ):
        raise ValueError(f"a signature of another kind: {said}")
    return {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}


def _compare(root: Path, name: str, signed: dict[str, str]) -> None:
    with open(root / name, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != signed.get(name):
            raise NotServed(f"{root / name} is not what was signed ({root / SIGNATURE})")
