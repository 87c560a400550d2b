"""A Sigstore on loopback: an OpenID provider, Fulcio, a certificate log and Rekor, as far as one signature needs them.

What they answer is made with real keys as the real services make it: Fulcio's profile of certificates
(https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md), a certificate's timestamp (RFC 6962),
an entry's proof of inclusion, its checkpoint and its promise (Rekor v1). Sigstore's own client signs with them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.in_a_thread import in_a_thread

WORKFLOW = "https://github.com/fashion/models/.github/workflows/publish.yml@refs/heads/main"
PROVIDER = "https://token.actions.githubusercontent.com"
ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_V2 = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
TIMESTAMPS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SINCE = "2020-01-01T00:00:00Z"

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def der(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Key) -> bytes:
    return hashlib.sha256(der(key)).digest()


def signed(key: Key, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(SHA256()))


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass
class Sigstore:
    """Its keys, and its deliberate faults."""

    port: int = 0
    provider: str = PROVIDER
    workflow: str = WORKFLOW
    log_later: timedelta = timedelta()  # the entry comes this much after the certificate
    authorities_end: timedelta = timedelta(days=365)  # from now
    refuse: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # path → instead of an answer
    ca: Key = field(default_factory=new_key)
    root: Key = field(default_factory=new_key)
    certificates: Key = field(default_factory=new_key)
    rekor: Key = field(default_factory=new_key)
    identities: Key = field(default_factory=new_key)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        root, ca = self._name("sigstore"), self._name("sigstore-intermediate")
        self.root_certificate = self._authority(root, self.root, root, self.root, 1)
        self.ca_certificate = self._authority(ca, self.ca, root, self.root, 0)

    # --- What a client is given ---------------------------------------------------------------------------------------

    def trusted_root(self) -> dict[str, Any]:
        chain = [self.ca_certificate, self.root_certificate]
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.rekor)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "sigstore.example", "commonName": "sigstore"},
                    "uri": self._url,
                    "certChain": {
                        "certificates": [{"rawBytes": text(each.public_bytes(Encoding.DER))} for each in chain]
                    },
                    "validFor": {"start": SINCE},
                }
            ],
            "ctlogs": [self._log(self.certificates)],
        }

    def trust_config(self) -> dict[str, Any]:
        service = [
            {"url": self._url, "majorApiVersion": 1, "validFor": {"start": SINCE}, "operator": "sigstore.example"}
        ]
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service,
                "oidcUrls": service,
                "rekorTlogUrls": service,
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The files of the trust root, for verifying, and of the configuration, for signing."""
        trust_root, config = folder / "trusted_root.json", folder / "trust_config.json"
        trust_root.write_text(json.dumps(self.trusted_root()))
        config.write_text(json.dumps(self.trust_config()))
        return trust_root, config

    def of_the_workflow(self) -> dict[str, str]:
        """The environment of a GitHub Actions job that may request its identity token."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of the job",  # pragma: allowlist secret
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self._url}/token",
        }

    # --- What it answers ----------------------------------------------------------------------------------------------

    def token(self) -> dict[str, Any]:
        now = int(time.time())
        claims = {"aud": "sigstore", "iss": self.provider, "iat": now, "nbf": now, "exp": now + 300}
        claims |= {"sub": "repo:fashion/models:ref:refs/heads/main", "job_workflow_ref": self.workflow}
        return {"value": jwt.encode(claims, self.identities, algorithm="ES256")}

    def certificate(self, token: str, request: x509.CertificateSigningRequest) -> list[x509.Certificate]:
        """Fulcio's: an identity that the provider vouches for gets one for ten minutes, which is logged."""
        claims = jwt.decode(token, self.identities.public_key(), algorithms=["ES256"], audience="sigstore")
        assert request.is_signature_valid
        issuer, now = claims["iss"].encode(), datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder(
                self.ca_certificate.subject, x509.Name([]), request.public_key(), x509.random_serial_number()
            )
            .not_valid_before(now)
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims["job_workflow_ref"])]), critical=True
            )
            .add_extension(x509.UnrecognizedExtension(ISSUER, issuer), critical=False)
            .add_extension(x509.UnrecognizedExtension(ISSUER_V2, bytes([0x0C, len(issuer)]) + issuer), critical=False)
        )
        before = builder.sign(self.ca, SHA256()).tbs_certificate_bytes
        stamp = self._timestamp(before, int(now.timestamp() * 1000))
        made = builder.add_extension(x509.UnrecognizedExtension(TIMESTAMPS, stamp), critical=False)
        return [made.sign(self.ca, SHA256()), self.ca_certificate, self.root_certificate]

    def entry(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Rekor's: the second entry in a log of two."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        body = json.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": _hex(content["envelope"].encode())},
                    "payloadHash": {"algorithm": "sha256", "value": _hex(base64.b64decode(envelope["payload"]))},
                    "signatures": [
                        {"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}
                    ],
                },
            }
        ).encode()
        first, second = hashlib.sha256(b"\0the first").digest(), hashlib.sha256(b"\0" + body).digest()
        root = hashlib.sha256(b"\1" + first + second).digest()
        note = f"rekor.sigstore.example - 1\n2\n{text(root)}\n"
        signature = text(key_id(self.rekor)[:4] + signed(self.rekor, note.encode()))
        said = {
            "body": text(body),
            "integratedTime": int((datetime.now(UTC) + self.log_later).timestamp()),
            "logID": key_id(self.rekor).hex(),
            "logIndex": 1,
        }
        promise = signed(self.rekor, json.dumps(said, separators=(",", ":"), sort_keys=True).encode())
        proof = {
            "logIndex": 1,
            "treeSize": 2,
            "rootHash": root.hex(),
            "hashes": [first.hex()],
            "checkpoint": f"{note}\n\N{EM DASH} rekor.sigstore.example {signature}\n",
        }
        return {"uuid": said | {"verification": {"inclusionProof": proof, "signedEntryTimestamp": text(promise)}}}

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _log(self, key: Key) -> dict[str, Any]:
        public = {"rawBytes": text(der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": SINCE}}
        return {
            "baseUrl": self._url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": public,
            "logId": {"keyId": text(key_id(key))},
        }

    def _timestamp(self, certificate: bytes, now_ms: int) -> bytes:
        """RFC 6962, 3.2 and 3.3: proof that the log has the certificate, as an extension in it."""
        length = struct.pack("!I", len(certificate))[1:]
        entry = struct.pack("!BBQH", 0, 0, now_ms, 1) + key_id(self.ca) + length + certificate + b"\0\0"
        signature = signed(self.certificates, entry)
        stamp = struct.pack("!B32sQHBBH", 0, key_id(self.certificates), now_ms, 0, 4, 3, len(signature)) + signature
        both = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        return bytes([0x04, len(both)] if len(both) < 128 else [0x04, 0x81, len(both)]) + both

    def _name(self, name: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )

    def _authority(self, name: x509.Name, key: Key, issuer: x509.Name, by: Key, below: int) -> x509.Certificate:
        now = datetime.now(UTC) - timedelta(days=30)
        return (
            x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(datetime.now(UTC) + self.authorities_end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
            .sign(by, SHA256())
        )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, False, False, False, key_cert_sign, key_cert_sign, False, False)


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def sigstore_server() -> Iterator[Sigstore]:
    sigstore = Sigstore()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: dict[str, Any]) -> None:
            path = self.path.partition("?")[0]
            sigstore.asked.append(path)
            if path in sigstore.refuse:
                self._send(*sigstore.refuse[path])
            elif path == "/token":
                assert self.headers["Authorization"] == "bearer of the job"
                self._say(sigstore.token())
            elif path == "/.well-known/openid-configuration":
                self._say({"authorization_endpoint": "http://127.0.0.1/", "token_endpoint": "http://127.0.0.1/"})
            elif path == "/api/v2/signingCert":
                token = self.headers["Authorization"].removeprefix("Bearer ")
                request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
                chain = [each.public_bytes(Encoding.PEM).decode() for each in sigstore.certificate(token, request)]
                self._say({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})
            elif path == "/api/v1/log/entries":
                self._say(sigstore.entry(body), 201)
            else:
                self._send(404, b"{}")

        def _say(self, answer: dict[str, Any], status: int = 200) -> None:
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
    sigstore.port = server.server_address[1]
    with in_a_thread(server):
        yield sigstore
