"""Registries on loopback: the real one (docker-registry, where it is installed), and a small one that tests may break.

Both are asked the same by the same tests, so the small one answers as the real one does:
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pipeline.shared.ports import free_ports
from pipeline.store.oci.layout import MANIFEST_TYPE, Blob
from pipeline.store.oci.uri import OciUri
from tests.support.in_a_thread import in_a_thread
from tests.support.waiting import Eventually

PROGRAMS = ("docker-registry", "registry")  # Debian's package docker-registry, and the project's own name
REPOSITORY = "team/alexnet"
USER, PASSWORD = "me", "secret"  # pragma: allowlist secret
BCRYPTED = "$2b$04$Ynm8YVVoJzch/dt2sWXGeu3eox85E81es3I7b7efJiISU17rzXZLC"  # pragma: allowlist secret

Trouble = Callable[["SmallVisit"], bool]


class Behind:
    """A registry's content, which tests read and change behind the clients' backs."""

    def __init__(self, address: str, authorization: tuple[str, str] | None = None) -> None:
        self.uri = OciUri.parse(f"oci://{address}/{REPOSITORY}")
        self._http = httpx.Client(base_url=f"http://{address}/v2/{REPOSITORY}/", trust_env=False, auth=authorization)

    def close(self) -> None:
        self._http.close()

    @property
    def tags(self) -> list[str]:
        answer = self._http.get("tags/list")
        return answer.json()["tags"] or [] if answer.status_code == 200 else []

    def manifest(self, tag: str) -> bytes:
        return self._http.get(f"manifests/{tag}", headers={"Accept": MANIFEST_TYPE}).raise_for_status().content

    def blob(self, digest: str) -> bytes:
        return self._http.get(f"blobs/{digest}").raise_for_status().content

    def put_blob(self, content: bytes) -> Blob:
        blob = Blob.of(content)
        location = self._http.post("blobs/uploads/").raise_for_status().headers["Location"]
        target = httpx.URL(location).copy_merge_params({"digest": blob.digest})
        self._http.put(target, content=content).raise_for_status()
        return blob

    def put_manifest(self, tag: str, content: bytes, media_type: str = MANIFEST_TYPE) -> str:
        """→ its digest."""
        headers = {"Content-Type": media_type}
        self._http.put(f"manifests/{tag}", content=content, headers=headers).raise_for_status()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


# --- The small one ----------------------------------------------------------------------------------------------------


class SmallRegistry(ThreadingHTTPServer):
    """`trouble` gets each request, and returns whether it has answered. `calls`: `METHOD path`, without queries.

    wants: "", "basic" or "bearer"; for the latter, tokens are at /token.
    """

    daemon_threads = False  # server_close() waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SmallVisit)
        self.address = f"127.0.0.1:{self.server_port}"
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}  # digests → media types and contents
        self.tagged: dict[str, str] = {}
        self.trouble: Trouble = lambda _: False
        self.wants = ""
        self.calls: list[str] = []
        self.authorizations: list[str | None] = []
        self.token = uuid.uuid4().hex


class SmallVisit(BaseHTTPRequestHandler):
    server: SmallRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> bool:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return True

    def error(self, status: int, code: str, message: str = "") -> bool:
        errors = {"errors": [{"code": code, "message": message or code.lower()}]}
        return self.answer(status, json.dumps(errors).encode(), Content_Type="application/json")

    def visit(self) -> None:
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        self.server.calls.append(f"{self.command} {address.path}")
        self.server.authorizations.append(self.headers["Authorization"])
        with suppress(ConnectionError):
            if not self.server.trouble(self) and self._may(address.path):
                self._serve(address.path.removeprefix(f"/v2/{REPOSITORY}/"))

    do_GET = do_HEAD = do_POST = do_PUT = visit  # noqa: N815

    def _may(self, path: str) -> bool:
        shown, wants = self.headers["Authorization"], self.server.wants
        basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if path == "/token":
            if shown not in (None, basic):
                return not self.error(401, "UNAUTHORIZED", "authentication required")
            token = self.server.token if shown else "nobodys"
            return not self.answer(200, json.dumps({"token": token}).encode())
        if wants == "basic" and shown != basic:
            return not self._unauthorized('Basic realm="Registry Realm"')
        if wants == "bearer" and shown != f"Bearer {self.server.token}":
            realm = f"http://{self.server.address}/token"
            return not self._unauthorized(
                f'Bearer realm="{realm}",service="small",scope="repository:{REPOSITORY}:pull"'
            )
        return True

    def _unauthorized(self, challenge: str) -> bool:
        self.close_connection = True
        errors = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        return self.answer(401, errors, WWW_Authenticate=challenge, Connection="close")

    def _serve(self, rest: str) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        kind, _, name = rest.partition("/")
        if rest == "tags/list":
            self._tags()
        elif self.command == "POST":
            location = f"http://{self.server.address}/v2/{REPOSITORY}/blobs/uploads/{uuid.uuid4()}?_state=a%3D%2B%2Fb"
            self.answer(202, Location=location)
        elif kind == "blobs" and self.command == "PUT":
            self._store(body)
        elif kind == "blobs":
            found = self.server.blobs.get(name)
            self.error(404, "BLOB_UNKNOWN") if found is None else self.answer(200, found)
        elif self.command == "PUT":
            self._tag(name, body)
        else:
            digest = self.server.tagged.get(name, name)
            media_type, content = self.server.manifests.get(digest, ("", b""))
            if not media_type:
                self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                self.answer(200, content, Content_Type=media_type, Docker_Content_Digest=digest)

    def _store(self, body: bytes) -> None:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if self.query["_state"] != ["a=+/b"] or self.query["digest"] != [digest]:
            self.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            return
        self.server.blobs[digest] = body
        self.answer(201, Docker_Content_Digest=digest)

    def _tag(self, reference: str, body: bytes) -> None:
        content = json.loads(body)
        named = [*content.get("layers", []), *([content["config"]] if "config" in content else [])]
        if any(each["digest"] not in self.server.blobs for each in named):
            self.error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
            return
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.server.manifests[digest] = (self.headers["Content-Type"], body)
        if reference != digest:
            self.server.tagged[reference] = digest
        self.answer(201, Docker_Content_Digest=digest)

    def _tags(self) -> None:
        last = self.query.get("last", [""])[0]
        most = int(self.query.get("n", ["1000"])[0])
        after = sorted(tag for tag in self.server.tagged if tag > last)
        if not self.server.tagged:
            self.error(404, "NAME_UNKNOWN", "repository name not known to registry")
            return
        page = after[:most]
        link = {"Link": f'</v2/{REPOSITORY}/tags/list?last={page[-1]}&n={most}>; rel="next"'} if after[most:] else {}
        self.answer(200, json.dumps({"name": REPOSITORY, "tags": page}).encode(), **link)


# --- The real one -----------------------------------------------------------------------------------------------------


def real_program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def real_registry(folder: Path, eventually: Eventually, auth: str = "") -> Iterator[str]:
    """HOST:PORT of a registry that stores its files in a folder. auth: lines of its settings."""
    program = real_program()
    if program is None:
        pytest.skip("there is no docker-registry in PATH (apt-get install docker-registry)")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'stored'}'}}}}\n{auth}"
    )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{address}/v2/", trust_env=False).status_code in (200, 401)
        return False

    log = folder / "registry.log"
    with log.open("wb") as said:
        process = subprocess.Popen([program, "serve", settings], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            eventually(answers)
            yield address
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def small_registry(user_environment: None, no_docker: Path) -> Iterator[SmallRegistry]:
    with in_a_thread(SmallRegistry()) as running:
        yield running


@pytest.fixture(params=["small", "docker-registry"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, eventually: Eventually, user_environment: None, no_docker: Path
) -> Iterator[Behind]:
    """Each in turn, empty."""
    running = _small() if request.param == "small" else real_registry(tmp_path, eventually)
    with running as address, closing(Behind(address)) as behind:
        yield behind


@pytest.fixture
def realest_registry(
    tmp_path: Path, eventually: Eventually, user_environment: None, no_docker: Path
) -> Iterator[Behind]:
    """The real one if it is installed, for tests that would take too long with both."""
    running = real_registry(tmp_path, eventually) if real_program() else _small()
    with running as address, closing(Behind(address)) as behind:
        yield behind


@contextmanager
def _small() -> Iterator[str]:
    with in_a_thread(SmallRegistry()) as running:
        yield running.address


@pytest.fixture
def no_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of docker's configuration, which does not exist."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("KSERVE_OCI_INSECURE_REGISTRY", raising=False)
    return tmp_path / "docker" / "config.json"


def version_of(manifest: bytes) -> str:
    found = re.search(rb'"org.opencontainers.image.version":"([0-9a-f]{12})"', manifest)
    assert found
    return found[1].decode()
