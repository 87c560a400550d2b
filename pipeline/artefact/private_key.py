"""A private key that signs, from a file or elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pipeline.shared.errors import KeyUnusable

UNLOCKED_BY = "ALEXNET_KEY_PASSWORD"  # the variable with the password of a private key that has one
CURVES = ("secp256r1", "secp384r1", "secp521r1")
HOW_TO_MAKE_ONE = "make one with: openssl ecparam -name prime256v1 -genkey -noout -out KEY"


class PrivateKey(Protocol):
    """Like cryptography's EllipticCurvePrivateKey, on one of the CURVES. pipeline/store/cloud_kms.py has another."""

    def public_key(self) -> EllipticCurvePublicKey: ...

    def sign(self, data: bytes, signature_algorithm: ECDSA) -> bytes: ...


def read_private_key(file: Path) -> PrivateKey:
    """Raises KeyUnusable if the file has no key that model-signing accepts, OSError if it cannot be read."""
    password = os.environ.get(UNLOCKED_BY, "").encode() or None
    content = file.read_bytes()
    try:
        private = load_pem_private_key(content, password)
    except TypeError:  # a password is missing, or not needed
        if password is None:
            raise KeyUnusable(file, f"is protected by a password: set {UNLOCKED_BY}") from None
        raise KeyUnusable(file, f"has no password: unset {UNLOCKED_BY}") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = f", or {UNLOCKED_BY} is wrong" if password else f": {HOW_TO_MAKE_ONE}"
        raise KeyUnusable(file, f"is not a private key in PEM{wrong}") from None
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in CURVES:
        raise KeyUnusable(file, f"is not an ECDSA key on the curve P-256, P-384 or P-521: {HOW_TO_MAKE_ONE}")
    return private
