"""Signatures without a key, as Sigstore makes them (https://docs.sigstore.dev), through model-signing's library.

An identity that an OpenID provider knows, such as a workflow or a service account, gets a certificate for ten minutes
and signs with a key that is thrown away; a public log records when. This is verified without a network, against a file
with the certificates and keys of Sigstore's services: the trust root.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.x509 import RFC822Name, SubjectAlternativeName, UniformResourceIdentifier
from cryptography.x509.oid import ObjectIdentifier
from model_signing import hashing, signing, verifying
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityError, Issuer, detect_credential

from pipeline.shared.deadline import within
from pipeline.shared.errors import NoIdentity, NotSigned, PipelineError, TrustRootUnusable
from pipeline.shared.text import innermost, one_line

PROVIDER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # in Fulcio's certificates: the issuer of the token
TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
TIMEOUT_S = 120  # Sigstore's library has none
MOST_BYTES = 1_000_000  # of a trust root's few thousand


@dataclass(frozen=True)
class Identity:
    """Who may have signed: the name in a certificate (an email address or a workflow's URL), the provider that vouches
    for it, and the trust root, which says which certificates and log to trust."""

    name: str
    provider: str
    trust_root: Path

    def __post_init__(self) -> None:
        """Raises NoIdentity if one is empty: sigstore would accept any provider for an empty one."""
        if not self.name or not self.provider:
            raise NoIdentity("the identity or its provider is empty: name both")

    def __str__(self) -> str:
        return f"{self.name} of {self.provider}"

    def verifying(self, scratch: Path) -> verifying.Config:
        """Uses no network. Raises TrustRootUnusable, or OSError if the file cannot be read."""
        config = scratch / "trust.json"
        config.write_text(json.dumps(trust_config(self.trust_root)))
        try:
            return verifying.Config().use_sigstore_verifier(
                identity=self.name, oidc_issuer=self.provider, trust_config=config
            )
        except Exception:  # pydantic, cryptography and sigstore each have errors of their own
            raise TrustRootUnusable(self.trust_root) from None


def trust_config(file: Path) -> Any:
    """A trust configuration for model-signing, from a file with one, or with only a trust root.

    Raises TrustRootUnusable, or OSError if it cannot be read.
    """
    try:
        said: Any = json.loads(file.read_bytes()[:MOST_BYTES])
        if said["mediaType"] == TRUST_CONFIG:
            return said
        return {"mediaType": TRUST_CONFIG, "trustedRoot": said, "signingConfig": {"mediaType": SIGNING_CONFIG}}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise TrustRootUnusable(file) from None


class Keyless:
    """The identity to sign with: the workflow or service account that this runs as, or else a person in a terminal, who
    logs in with a browser. own: the trust configuration of a private Sigstore.

    Raises NoIdentity if there is none, TrustRootUnusable, or OSError if the file cannot be read.
    """

    def __init__(self, own: Path | None = None) -> None:
        self._own = None if own is None else json.dumps(trust_config(own))
        if _ambient() is None and not sys.stdin.isatty():
            raise NoIdentity(
                "there is no identity to sign with: run this in GitHub Actions (with permissions: id-token: write), on "
                "Google Cloud, or in a terminal, where a browser asks who you are"
            )

    def sign(self, directory: Path, hashing: hashing.Config, made: Path, config: Path) -> Identity:
        """Writes a folder's signature, and the trust configuration to verify it with.

        Returns who signed. Raises NoIdentity or NotSigned.
        """
        with _explained():
            if self._own is None:
                config.write_text(within(TIMEOUT_S, ClientTrustConfig.production)._inner.to_json())
            else:
                config.write_text(self._own)
            token = _ambient() or _asked_for(config)
            signer = signing.Config().set_hashing_config(hashing)

            def sign() -> None:
                signer.use_sigstore_signer(identity_token=token, trust_config=config).sign(directory, made)

            within(TIMEOUT_S, sign)
            return _signed_by(made, config)


def _ambient() -> str | None:
    """The token of the workflow or service account that this runs as. Raises NoIdentity."""
    try:
        return detect_credential()
    except IdentityError as error:
        raise NoIdentity(
            f"this runs in the cloud, but cannot sign with its identity ({one_line(innermost(error))})"
        ) from None


def _asked_for(config: Path) -> str:
    """The token of a person who logs in with a browser."""
    provider = ClientTrustConfig.from_json(config.read_text()).signing_config.get_oidc_url()
    return str(Issuer(provider).identity_token())


def _signed_by(signature: Path, config: Path) -> Identity:
    extensions = Bundle.from_json(signature.read_bytes()).signing_certificate.extensions
    names = extensions.get_extension_for_class(SubjectAlternativeName).value
    provider: Any = extensions.get_extension_for_oid(PROVIDER).value
    (name,) = names.get_values_for_type(RFC822Name) + names.get_values_for_type(UniformResourceIdentifier)
    return Identity(name, provider.value.decode(), config)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns exceptions into PipelineErrors: requests, pydantic, tuf, sigstore and id each have their own."""
    try:
        yield
    except PipelineError:
        raise
    except TimeoutError:
        raise NotSigned(f"no answer within {TIMEOUT_S} s") from None
    except Exception as error:
        said: BaseException = error
        while not str(said) and said.__cause__:  # Fulcio's client has no message of its own
            said = said.__cause__
        raise NotSigned(one_line(innermost(said)) or type(said).__name__) from None
