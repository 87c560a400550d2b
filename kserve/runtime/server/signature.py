"""The signature: whether a key has signed what will be served.

It is a Sigstore bundle with a DSSE envelope around an in-toto statement, as OpenSSF's model-signing writes it. That
library is not in the image: it would bring 32 packages more than cryptography, an HTTP client among them. Formats:
https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.errors import NotServed
from server.folder import CONFIG, Folder

SIGNATURE = "model.sig"
HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


def check_signature(root: Path, public_key: Path) -> Folder:
    """Raises NotServed unless the key has signed the settings, the archive that follows from them, and nothing else.

    What is served is the folder that this returns, and none that is looked at again.
    """
    try:
        return _check(root, public_key)
    except NotServed as fault:
        raise NotServed(f"{fault}: TorchServe is not started, since ALEXNET_PUBLIC_KEY is set") from None


def _check(root: Path, public_key: Path) -> Folder:
    key = _key(public_key)
    signature = root / SIGNATURE
    try:
        signed = _signed_digests(signature.read_bytes(), key)
        _compare(root, CONFIG, signed)
        folder = Folder(root)  # nothing is read from settings before they are known to be signed
        _compare(root, folder.archive, signed)
    except FileNotFoundError as error:
        raise NotServed(f"{error.filename} is missing: publish what scripts/package.sh --sign made") from None
    except OSError as error:
        raise NotServed(f"{error.filename} cannot be read ({error.strerror})") from None
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NotServed(f"{signature} is not a signature by the key {public_key}") from None
    if more := sorted(signed.keys() - {CONFIG, folder.archive}):
        raise NotServed(f"{signature} is about more files than are served: {', '.join(more)}")
    return folder


def _key(file: Path) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise NotServed(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in HASHES:
        raise NotServed(f"{file} is not a public ECDSA key in PEM")
    return key


def _signed_digests(bundle: bytes, key: EllipticCurvePublicKey) -> dict[str, str]:
    """A signature → the names of the signed files, and their SHA-256.

    Raises InvalidSignature, or one of Python's own errors where a part is missing or of another kind.
    """
    envelope: Any = json.loads(bundle)["dsseEnvelope"]
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    key.verify(signature, encoded, ECDSA(HASHES[key.curve.name]))
    statement: Any = json.loads(payload)  # from here on, these are the words of who has the key
    said = (kind, statement["_type"], statement["predicateType"], statement["predicate"]["serialization"]["method"])
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
