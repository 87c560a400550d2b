"""An identity that signed without a key: Sigstore gave it a certificate, and its log records when.

Sigstore's own library verifies this, without a network. It needs about as many packages as model-signing would, so it
is in the image only on request: make image KEYLESS=yes.
"""

from __future__ import annotations

from pathlib import Path

from server.errors import NotServed
from server.signature import NotSigned, Signed


class Identity:
    """The name in a certificate, the provider that vouches for it, and the file with the trusted certificates.

    Raises NotServed if this image cannot verify it.
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
        """See server.signature.Trusted."""
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle

        try:
            return Signed(*self._verifier.verify_dsse(Bundle.from_json(bundle), self._policy))
        except VerificationError as error:
            raise NotSigned(" ".join(str(error).split())[:400]) from None
        except Exception:
            raise NotSigned from None
