"""A Cloud KMS on loopback: the two calls of a key that signs, as Google documents them, with real keys and checksums.

https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.in_a_thread import in_a_thread

KEY = "projects/fashion/locations/europe-west4/keyRings/models/cryptoKeys/publisher"
HASHES: dict[str, Any] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}
CURVES: dict[str, Any] = {
    "EC_SIGN_P256_SHA256": ec.SECP256R1(),
    "EC_SIGN_P384_SHA384": ec.SECP384R1(),
    "EC_SIGN_SECP256K1_SHA256": ec.SECP256K1(),
}
REASONS = {400: "FAILED_PRECONDITION", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
Change = Callable[[str, dict[str, Any]], None]  # (the call, its answer)


@dataclass
class Version:
    """Of a key."""

    private: ec.EllipticCurvePrivateKey
    algorithm: str
    state: str = "ENABLED"

    @classmethod
    def of(cls, algorithm: str) -> Version:
        return cls(ec.generate_private_key(CURVES[algorithm]), algorithm)


@dataclass
class Kms:
    """Its keys, its permissions, and the requests that it received."""

    port: int = 0
    versions: dict[str, Version] = field(default_factory=dict)
    allowed: set[str] = field(default_factory=lambda: {"viewPublicKey", "useToSign"})
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    change: Change = lambda call, answer: None
    instead: Callable[[str], tuple[int, bytes] | None] = lambda call: None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/"

    def public_key(self, number: int = 1) -> bytes:
        """In PEM."""
        private = self.versions[f"{KEY}/cryptoKeyVersions/{number}"].private
        return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def credentials(self, folder: Path) -> Path:
        """The credentials file of a user who gets tokens here. (For a service account, google-auth calls Google.)"""
        content = {
            "type": "external_account_authorized_user",
            "audience": "nobody",
            "client_id": "publisher",
            "client_secret": "publisher",  # pragma: allowlist secret
            "refresh_token": "publisher",
            "token_url": f"http://127.0.0.1:{self.port}/token",
        }
        file = folder / "credentials.json"
        file.write_text(json.dumps(content))
        return file

    def answer(self, name: str, call: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        permission = "viewPublicKey" if call == "publicKey" else "useToSign"
        if permission not in self.allowed:
            return _refused(403, f"Permission 'cloudkms.cryptoKeyVersions.{permission}' denied on resource '{name}'.")
        version = self.versions.get(name)
        if version is None:
            return _refused(404, f"CryptoKeyVersion {name} not found.")
        if version.state != "ENABLED":
            return _refused(400, f"{name} is not enabled, current state is: {version.state}.")
        if call == "publicKey":
            pem = version.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            answer: dict[str, Any] = {"pem": pem.decode(), "algorithm": version.algorithm, "pemCrc32c": crc32c(pem)}
        else:
            ((said, value),) = body["digest"].items()
            digest = base64.b64decode(value)
            if said not in version.algorithm.lower() or len(digest) != hashlib.new(said).digest_size:
                return _refused(400, f"Digest {said} does not match algorithm {version.algorithm}.")
            if body["digestCrc32c"] != crc32c(digest):
                return _refused(400, "The checksum in field digest_crc32c did not match the data in field digest.")
            signature = version.private.sign(digest, ec.ECDSA(Prehashed(HASHES[said])))
            encoded = base64.b64encode(signature).decode()
            answer = {"signature": encoded, "signatureCrc32c": crc32c(signature), "verifiedDigestCrc32c": True}
        answer |= {"name": name, "protectionLevel": "HSM"}
        self.change(call, answer)
        return 200, answer


def crc32c(content: bytes) -> str:
    return str(google_crc32c.value(content))


def _refused(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": status, "message": message, "status": REASONS[status]}}


@contextmanager
def kms_server() -> Iterator[Kms]:
    """With one version of one key, on P-256."""
    kms = Kms(versions={f"{KEY}/cryptoKeyVersions/1": Version.of("EC_SIGN_P256_SHA256")})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, call = self.path.removeprefix("/v1/").rpartition("/")
            self._answer(name, call, {})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/token":
                self._send(200, json.dumps({"access_token": "of the publisher", "expires_in": 3600}).encode())
            else:
                name, _, call = self.path.removeprefix("/v1/").rpartition(":")
                self._answer(name, call, json.loads(content))

        def _answer(self, name: str, call: str, body: dict[str, Any]) -> None:
            kms.asked.append((call, body))
            if instead := kms.instead(call):
                self._send(*instead)
            elif self.headers["Authorization"] != "Bearer of the publisher":
                self._send(401, json.dumps(_refused(401, "Request had invalid credentials.")[1]).encode())
            else:
                status, answer = kms.answer(name, call, body)
                self._send(status, json.dumps(answer).encode())

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kms.port = server.server_address[1]
    with in_a_thread(server):
        yield kms
