"""A private key in Google Cloud KMS: it signs there, and never leaves.

Two calls, which follow Google's guidelines (https://cloud.google.com/kms/docs/data-integrity-guidelines): requests and
responses have a CRC32C, and a response names its key.
https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions
"""

from __future__ import annotations

import base64
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import google.auth
import google_crc32c
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import Hash
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from pipeline.shared.errors import CredentialsUnusable, KeyUnusable, PipelineError
from pipeline.shared.text import first_line, innermost
from pipeline.store.explanations import NETWORKS

SCHEME = "gcpkms://"  # as in cosign and other tools
API = "https://cloudkms.googleapis.com/v1/"
SCOPE = "https://www.googleapis.com/auth/cloudkms"
ROLE = "roles/cloudkms.signerVerifier"
TIMEOUT_S = (5, 30)  # to connect, and to read
AGAIN = Retry(
    total=2,
    read=False,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,  # signing twice does no harm
    backoff_factor=0.5,
    raise_on_status=False,
    respect_retry_after_header=False,  # it may be hours
)
# What model-signing verifies and Cloud KMS supports, which has no P-521.
DIGESTS = {"EC_SIGN_P256_SHA256": "sha256", "EC_SIGN_P384_SHA384": "sha384"}
HOW_TO_MAKE_ONE = (
    "make another with gcloud kms keys create --purpose=asymmetric-signing --default-algorithm=ec-sign-p256-sha256"
)
NAME = re.compile(
    r"(projects/[\w.:-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+)/(?:cryptoKeyVersions|versions)/([1-9]\d*)",
    re.ASCII,
)


def is_in_cloud_kms(key: str) -> bool:
    """Whether this means a key in Cloud KMS, not a file."""
    return key.startswith((SCHEME, "projects/"))


@dataclass(frozen=True)
class CloudKmsKey:
    """One version of a key. `public_key` and `sign` work like those of cryptography's private keys.

    They raise PipelineError if Cloud KMS does not answer, refuses, or gives an unexpected answer.
    """

    name: str

    @classmethod
    def parse(cls, said: str) -> CloudKmsKey:
        """gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N, or without the scheme.

        Raises KeyUnusable for anything else: without its version, the key would change with each rotation.
        """
        found = NAME.fullmatch(said.removeprefix(SCHEME))
        if not found:
            raise KeyUnusable(
                said,
                "is not a version of a key in Cloud KMS: expected "
                f"{SCHEME}projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/1",
            )
        return cls(f"{found[1]}/cryptoKeyVersions/{found[2]}")

    def __str__(self) -> str:
        return SCHEME + self.name

    def public_key(self) -> EllipticCurvePublicKey:
        return self._public[0]

    def sign(self, data: bytes, signature_algorithm: ECDSA) -> bytes:
        """The ASN.1 signature of data. Cloud KMS sees only the hash."""
        key, digest = self._public
        hashed = Hash(signature_algorithm.algorithm)  # type: ignore[arg-type]  # it may also be Prehashed
        hashed.update(data)
        value = hashed.finalize()
        answer = self._ask(
            ":asymmetricSign", {"digest": {digest: base64.b64encode(value).decode()}, "digestCrc32c": _crc32c(value)}
        )
        with self._as_documented():
            signature = base64.b64decode(answer["signature"], validate=True)
            if answer["verifiedDigestCrc32c"] is not True or answer["signatureCrc32c"] != _crc32c(signature):
                raise self._damaged()
        try:
            key.verify(signature, data, signature_algorithm)
        except InvalidSignature:
            raise self._damaged() from None
        return signature

    @cached_property
    def _public(self) -> tuple[EllipticCurvePublicKey, str]:
        """The public key, and the hash that the key signs."""
        answer = self._ask("/publicKey")
        with self._as_documented():
            pem, algorithm = answer["pem"].encode(), answer["algorithm"]
            if answer["pemCrc32c"] != _crc32c(pem):
                raise self._damaged()
            if algorithm not in DIGESTS:
                raise KeyUnusable(self, f"is a key with the algorithm {algorithm}: {HOW_TO_MAKE_ONE}")
            key = load_pem_public_key(pem)
            if not isinstance(key, EllipticCurvePublicKey):
                raise TypeError
        return key, DIGESTS[algorithm]

    @cached_property
    def _session(self) -> AuthorizedSession:
        """With Application Default Credentials. Raises CredentialsUnusable."""
        for chatty in ("google.auth", "urllib3.connectionpool"):  # they log warnings for each attempt
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `gcloud auth` credentials work, despite its quota warning
            try:
                credentials, _ = google.auth.default(scopes=[SCOPE])
            except (
                GoogleAuthError,
                ValueError,
                AttributeError,
                TypeError,
            ) as error:  # the last three from malformed files
                raise CredentialsUnusable(f"no Google Cloud credentials for {self} ({first_line(error)})") from None
        session = AuthorizedSession(credentials)
        session.mount(API, HTTPAdapter(max_retries=AGAIN))
        return session

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Cloud KMS's answer, about this key."""
        url, method = f"{API}{self.name}{what}", "POST" if body else "GET"
        try:
            response = self._session.request(
                method, url, json=body, timeout=TIMEOUT_S, max_allowed_time=sum(TIMEOUT_S), allow_redirects=False
            )
        except NETWORKS as error:
            remedy = "check the network, HTTPS_PROXY and NO_PROXY"
            raise PipelineError(f"{self}: Cloud KMS cannot be reached ({innermost(error)}): {remedy}") from None
        except GoogleAuthError as error:
            raise CredentialsUnusable(f"{self}: the credentials are not accepted ({first_line(error)})") from None
        with self._as_documented():
            answer: dict[str, Any] = response.json()
            if response.status_code != 200:
                raise self._refusal(response.status_code, first_line(answer["error"]["message"]))
            if answer["name"] != self.name:
                raise ValueError
        return answer

    def _refusal(self, status: int, said: str) -> PipelineError:
        if status == 401:
            return CredentialsUnusable(f"{self}: the credentials are not accepted ({said})")
        if status == 403:
            return KeyUnusable(self, f"may not be used ({said}): ask its owner for the role {ROLE}")
        if status == 404:
            return KeyUnusable(self, f"does not exist ({said}): gcloud kms keys versions list shows those that do")
        if status == 429 or status >= 500:
            return PipelineError(
                f"{self}: Cloud KMS keeps answering {status} ({said}): run this again in a few minutes"
            )
        return KeyUnusable(self, f"does not sign ({said}): gcloud kms keys versions describe shows its state")

    @contextmanager
    def _as_documented(self) -> Iterator[None]:
        """An undocumented answer is a proxy's page, or some other server's."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UnsupportedAlgorithm):
            raise PipelineError(f"{self}: the server that answered is not Cloud KMS: check HTTPS_PROXY") from None

    def _damaged(self) -> PipelineError:
        return PipelineError(f"{self}: data was damaged on its way to or from Cloud KMS: run this again")


def _crc32c(content: bytes) -> str:
    """As a string, which is how the API's JSON writes 64-bit integers."""
    return str(google_crc32c.value(content))
