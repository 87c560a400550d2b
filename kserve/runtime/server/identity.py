"""An identity that has signed without a key: Sigstore has given it a certificate, and its log says when.

Sigstore's own library verifies that, without a network. It brings about as many packages as model-signing would, so it
is in the image only where somebody has asked for it: make image KEYLESS=yes.
"""

from __future__ import annotations

from pathlib import Path

from server.errors import NotServed
from server.signature import NotSigned, Signed


class Identity:
    """The name in a certificate, the provider that vouches for it, and the file that says whose certificates count.

    Raises NotServed where that cannot be verified.
    """

    def __init__(self, name: str, provider: str, trust_root: Path) -> None:
        self._name, self._provider = name, provider
        try:
            from sigstore.models import TrustedRoot
            from sigstore.verify import Verifier, policy
        except ImportError:
            raise NotServed("this image cannot verify identities: build one with make image KEYLESS=yes") from None
        try:
            self._verifier = Verifier(trusted_root=TrustedRoot.from_file(str(trust_root)))
        except OSError as error:
            raise NotServed(f"{trust_root} cannot be read ({error.strerror})") from None
        except Exception:  # pydantic, cryptography and sigstore each have errors of their own
            raise NotServed(f"{trust_root} is not a trust root of Sigstore") from None
        self._policy = policy.Identity(identity=name, issuer=provider)

    def __str__(self) -> str:
        return f"{self._name} of {self._provider}"

    def verify(self, bundle: bytes) -> Signed:
        """As server.signature.Trusted."""
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle

        try:
            return Signed(*self._verifier.verify_dsse(Bundle.from_json(bundle), self._policy))
        except VerificationError as error:
            raise NotSigned(" ".join(str(error).split())[:400]) from None
        except Exception:
            raise NotSigned from None
