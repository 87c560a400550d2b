"""A server that authenticates its callers, and callers for it."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

import httpx
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.question import QUESTION
from pipeline.serving.server_log import ServerLog
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from tests.support.one_worker import ONE_WORKER
from tests.support.waiting import Eventually

ISSUER, AUDIENCE = "https://issuer.example", "alexnet"
OTHER_ORIGIN = "https://page.example"
PER_CLIENT, PER_POD = 40, 60
TOO_FEW = 4  # requests a minute, where addresses are counted
NO_PROXY: dict[str, Any] = {"trust_env": False, "timeout": 60}
CREDENTIALS = {"error": "credentials: missing or invalid"}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Issues tokens, as in RFC 7519."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwks(self) -> str:
        numbers = self.key.public_key().public_numbers()
        n, e = (base64url(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
        return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", "n": n, "e": e}]})

    def token(self, algorithm: str = "RS256", **claims: object) -> str:
        """claims: added to valid ones, or replacing them; None removes one."""
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": int(time.time()) + 3600}
        said = {name: value for name, value in (good | claims).items() if value is not None}
        parts = [{"alg": algorithm, "typ": "JWT", "kid": "one"}, said]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{base64url(self._signature(algorithm, signed.encode()))}"

    def _signature(self, algorithm: str, signed: bytes) -> bytes:
        if algorithm == "none":
            return b""
        if algorithm == "HS256":  # with the public key as the secret: the oldest of tricks
            public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            mac = HMAC(public, SHA256())
            mac.update(signed)
            return mac.finalize()
        return self.key.sign(signed, padding.PKCS1v15(), SHA256())


class Secret:
    """A folder that Kubernetes mounts and changes: ..data is a link to the current content's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._moments = count()
        folder.mkdir()
        self.hold({})

    def hold(self, files: dict[str, str]) -> None:
        """As kubelet's AtomicWriter does."""
        new = self.folder / f"..{next(self._moments)}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_text(content)
        data = self.folder / "..data"
        old = data.resolve() if data.exists() else None
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(data)
        there = {path.name for path in self.folder.iterdir() if not path.name.startswith("..")}
        for name in files.keys() - there:
            (self.folder / name).symlink_to(f"..data/{name}")
        for name in there - files.keys():
            (self.folder / name).unlink()
        if old:
            shutil.rmtree(old)


class Heard(ServerLog):
    """Keeps every line."""

    def __init__(self) -> None:
        super().__init__(MODEL_NAME, lambda _: None)
        self.lines: list[str] = []

    def read(self, stream: IO[str]) -> None:
        def kept() -> Iterator[str]:
            for line in stream:
                self.lines.append(line)
                yield line

        for line in kept():
            self._read_line(line.rstrip())
        stream.close()


class Service:
    """A running server, and everything needed to call it."""

    def __init__(self, running: TorchServe, heard: Heard, scratch: Path, issuer: Issuer, secret: Secret) -> None:
        self.running, self.heard, self.scratch, self.issuer, self.secret = running, heard, scratch, issuer, secret
        self.url, self.predict_url = running.url, running.predict_url
        self.http = httpx.Client(**NO_PROXY)
        self._numbers = count()

    def ask(self, key: str | None = None, token: str | None = None, **headers: str) -> httpx.Response:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        said |= {"x-api-key": key} if key is not None else {}
        said |= {"authorization": f"Bearer {token}"} if token is not None else {}
        return self.http.post(self.predict_url, json=QUESTION, headers=said)

    def new_key(self, eventually: Eventually) -> str:
        """The key of a new client, whose minute is unused; others' keys are removed."""
        number = next(self._numbers)
        key = f"key-{number}-{'k' * 32}"
        self.secret.hold({f"client-{number}": key + "\n"})
        # A refused request does not count against the client, and an invalid body costs the model nothing.
        eventually(lambda: self.http.post(self.predict_url, headers=self.both(key)).status_code == 400)
        return key

    def both(self, key: str) -> dict[str, str]:
        return {"x-api-key": key, "authorization": f"Bearer {self.issuer.token()}"}


@contextmanager
def serving(directory: Path, environment: dict[str, str]) -> Iterator[tuple[TorchServe, Heard, Path]]:
    scratch = Path(tempfile.mkdtemp(prefix="w-", dir="/tmp"))  # short, for sockets
    heard = Heard()
    running = TorchServe(
        directory,
        MODEL_NAME,
        Ports.any_free(),
        environment={"TMPDIR": str(scratch), "LOG_REQUESTS": "1"} | ONE_WORKER | environment,
    )
    running._log = heard
    try:
        with running:
            yield running, heard, scratch
    finally:
        shutil.rmtree(scratch)
