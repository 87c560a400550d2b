"""A public key that verifies signatures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.errors import NotServed
from server.signature import NotSigned, Signed

HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


class PublicKey:
    """From a PEM file. Raises NotServed if it has no supported key."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            key = load_pem_public_key(file.read_bytes())
        except OSError as error:
            raise NotServed(f"{file} cannot be read ({error.strerror})") from None
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in HASHES:
            raise NotServed(f"{file} is not a public ECDSA key in PEM")
        self._key = key

    def __str__(self) -> str:
        return f"the key {self._file}"

    def verify(self, bundle: bytes) -> Signed:
        """See server.signature.Trusted."""
        envelope: Any = json.loads(bundle)["dsseEnvelope"]
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        try:
            self._key.verify(signature, encoded, ECDSA(HASHES[self._key.curve.name]))
        except InvalidSignature:
            raise NotSigned from None
        return Signed(kind, payload)
