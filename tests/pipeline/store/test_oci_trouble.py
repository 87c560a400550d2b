"""Refusals, network trouble and false data from a registry: one sentence each, and nothing is left behind."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pipeline.artefact.version import ARCHIVE, Version
from pipeline.shared.errors import PipelineError
from pipeline.store.oci.layout import artefact_of
from pipeline.store.oci.pushing import push_version
from pipeline.store.oci.reading import list_tags, read_whole
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from pipeline.store.pull import pull_version
from tests.support.oci_registry import (
    BCRYPTED,
    PASSWORD,
    REPOSITORY,
    USER,
    Behind,
    SmallRegistry,
    SmallVisit,
    real_registry,
)
from tests.support.waiting import Eventually
from tests.support.website import Website, running_website

Files = Mapping[str, Path]


@pytest.fixture
def repository(small_registry: SmallRegistry) -> OciUri:
    return OciUri.parse(f"oci://{small_registry.address}/{REPOSITORY}")


def push(repository: OciUri, files: Files) -> OciUri:
    with Registry(repository, for_writing=True) as registry:
        return push_version(registry, Version.of(files), files, lambda *_: None).uri


def pull(uri: OciUri, tmp_path: Path) -> Path:
    return pull_version(uri, tmp_path / "cache", lambda *_: None, pytest.fail)


def reason(attempt: Callable[[], object]) -> str:
    with pytest.raises(PipelineError) as refused:
        attempt()
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


def pull_reason(uri: OciUri, tmp_path: Path) -> str:
    said = reason(lambda: pull(uri, tmp_path))
    (left,) = os.listdir(tmp_path / "cache")
    assert left.endswith(".lock")
    return said


def note(config: Path, registry: str, user: str = USER, password: str = PASSWORD) -> None:
    """Like docker login."""
    config.parent.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))


# --- Credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wants", ["basic", "bearer"])
def test_credentials_are_shown_where_they_are_wanted(
    small_registry: SmallRegistry, repository: OciUri, no_docker: Path, small: Files, tmp_path: Path, wants: str
) -> None:
    small_registry.wants = wants
    note(no_docker, small_registry.address)
    uri = push(repository, small)
    assert pull(uri, tmp_path).is_dir()


@pytest.mark.parametrize("wants", ["basic", "bearer"])
def test_that_there_are_none_is_told(
    small_registry: SmallRegistry, repository: OciUri, small: Files, tmp_path: Path, wants: str
) -> None:
    small_registry.wants = wants
    expected = f"{repository.registry} requires credentials, but docker has none for it: run docker login"
    assert reason(lambda: push(repository, small)).startswith(expected)
    assert pull_reason(repository.at("0123456789ab"), tmp_path).startswith(expected)


@pytest.mark.parametrize("wants", ["basic", "bearer"])
def test_that_they_are_refused_is_told(
    small_registry: SmallRegistry, repository: OciUri, no_docker: Path, tmp_path: Path, wants: str
) -> None:
    small_registry.wants = wants
    note(no_docker, small_registry.address, password=f"{PASSWORD}x")
    expected = f"{repository.registry} does not accept the credentials of me: run docker login {repository.registry}"
    assert pull_reason(repository.at("0123456789ab"), tmp_path) == expected


def test_a_token_that_has_run_out_is_renewed(
    small_registry: SmallRegistry, repository: OciUri, no_docker: Path, small: Files
) -> None:
    small_registry.wants = "bearer"
    note(no_docker, small_registry.address)

    def trouble(visit: SmallVisit) -> bool:
        if visit.command == "PUT":
            small_registry.token = f"token{len(small_registry.calls)}"
            small_registry.trouble = lambda _: False
        return False

    small_registry.trouble = trouble
    assert push(repository, small).tag in small_registry.tagged


def test_the_first_of_two_schemes_is_used(
    small_registry: SmallRegistry, repository: OciUri, no_docker: Path, small: Files
) -> None:
    note(no_docker, small_registry.address)
    uri = push(repository, small)
    small_registry.wants = "bearer"
    both = f'Bearer realm="http://{small_registry.address}/token",service="small",Basic realm="Registry"'
    small_registry.trouble = lambda visit: (
        "/manifests/" in visit.path and not visit.headers["Authorization"] and visit.answer(401, WWW_Authenticate=both)
    )
    with Registry(repository) as registry:
        assert read_whole(registry, uri).version == Version.of(small)


def test_without_a_challenge_nothing_is_shown(
    small_registry: SmallRegistry, repository: OciUri, no_docker: Path, small: Files
) -> None:
    note(no_docker, small_registry.address)
    push(repository, small)
    assert set(small_registry.authorizations) == {None}


def test_the_real_registry_takes_basic_credentials(
    tmp_path: Path, eventually: Eventually, no_docker: Path, user_environment: None, small: Files
) -> None:
    (tmp_path / "htpasswd").write_text(f"{USER}:{BCRYPTED}\n")
    auth = f"auth: {{htpasswd: {{realm: 'Registry Realm', path: '{tmp_path / 'htpasswd'}'}}}}\n"
    with real_registry(tmp_path, eventually, auth) as address:
        repository = OciUri.parse(f"oci://{address}/{REPOSITORY}")
        assert reason(lambda: push(repository, small)).startswith(f"{address} wants credentials")
        note(no_docker, address, password="another")  # pragma: allowlist secret
        assert reason(lambda: push(repository, small)).startswith(f"{address} does not accept the credentials of me")
        note(no_docker, address)
        uri = push(repository, small)
        assert pull(uri, tmp_path).is_dir()
        behind = Behind(address, (USER, PASSWORD))
        assert behind.tags == [uri.tag]
        behind.close()


def issuer(website: Website, folder: Path) -> str:
    """A token server, and the settings that make the real registry trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tokens.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    header = {"x5c": [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]}

    def token(visit: BaseHTTPRequestHandler) -> None:
        is_known = visit.headers["Authorization"] == f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        query = parse_qs(urlsplit(visit.path).query)
        _, repository, actions = query["scope"][0].split(":")
        access = [{"type": "repository", "name": repository, "actions": actions.split(",")}] if is_known else []
        claims = {"iss": "issuer", "aud": query["service"][0], "exp": now + timedelta(hours=1), "access": access}
        body = json.dumps({"token": jwt.encode(claims, key, "ES256", header)}).encode()
        visit.send_response(200)
        visit.send_header("Content-Length", str(len(body)))
        visit.end_headers()
        visit.wfile.write(body)

    website.pages["/token"] = token
    settings = {"realm": f"{website.url}/token", "service": "real", "issuer": "issuer"}
    return f"auth: {json.dumps({'token': settings | {'rootcertbundle': str(folder / 'tokens.pem')}})}\n"


def test_the_real_registry_takes_tokens_from_this_and_from_kserve(
    tmp_path: Path,
    eventually: Eventually,
    website: Website,
    no_docker: Path,
    user_environment: None,
    small: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("oras")  # a dependency of KServe's library, but not for Python 3.14
    from kserve_storage import Storage

    with real_registry(tmp_path, eventually, issuer(website, tmp_path)) as address:
        repository = OciUri.parse(f"oci://{address}/{REPOSITORY}")
        assert reason(lambda: push(repository, small)).startswith(f"{address} wants credentials")
        note(no_docker, address)
        uri = push(repository, small)
        ours = pull(uri, tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))  # KServe's library stores its credentials there
        monkeypatch.setenv("KSERVE_OCI_INSECURE_REGISTRY", "true")
        monkeypatch.setenv("KSERVE_OCI_DOCKER_CONFIG", str(no_docker))
        theirs = Path(Storage.download(str(uri), str(tmp_path / "models")))
        assert (theirs / ARCHIVE).read_bytes() == (ours / ARCHIVE).read_bytes()


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "for_writing", "expected"),
    [
        (403, "DENIED", True, "me has no access to oci://HOST/team/alexnet (no): ask its owner for the right to push"),
        (403, "DENIED", False, "me has no access to oci://HOST/team/alexnet (no): ask its owner for the right to pull"),
        (404, "NAME_UNKNOWN", True, "HOST has no repository for team/alexnet (no): ask its owner for it"),
        (429, "TOOMANYREQUESTS", False, "HOST: too many requests (no): try again later"),
        (503, "UNAVAILABLE", False, "HOST answers 503 (no): run this again in a few minutes, what has been sent stays"),
        (405, "UNSUPPORTED", True, "HOST refuses (405): no"),
    ],
)
def test_refusals_are_told_with_their_remedy(
    small_registry: SmallRegistry,
    repository: OciUri,
    no_docker: Path,
    small: Files,
    tmp_path: Path,
    status: int,
    code: str,
    for_writing: bool,
    expected: str,
) -> None:
    small_registry.wants = "basic"
    note(no_docker, small_registry.address)
    uri = push(repository, small)
    small_registry.trouble = lambda visit: (
        visit.headers["Authorization"] is not None
        and (not for_writing or visit.command == "POST")
        and visit.error(status, code, "no")
    )
    small_registry.blobs.clear()
    small_registry.tagged.clear()
    said = reason(lambda: push(repository, small)) if for_writing else pull_reason(uri, tmp_path)
    assert said.removeprefix("oci://").startswith(expected.replace("HOST", repository.registry))
    assert not small_registry.tagged


def test_google_is_told_by_its_own_words(no_docker: Path) -> None:
    from pipeline.store.oci.refusals import refusal

    uri = OciUri.parse("oci://europe-west1-docker.pkg.dev/project/images/alexnet")
    said = [str(refusal(uri, status, b"", True, user)) for status, user in ((401, None), (403, "x"), (404, "x"))]
    assert said[0].endswith("run gcloud auth login, and gcloud auth configure-docker europe-west1-docker.pkg.dev")
    assert said[1].endswith("ask its owner for the role roles/artifactregistry.writer")
    assert said[2].endswith("gcloud artifacts repositories create makes it")
    stranger = OciUri.parse("oci://evilgcr.io/project/alexnet")
    assert str(refusal(stranger, 401, b"", True, None)).endswith("run docker login evilgcr.io")


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"[]", b'{"tags": 1}', b'{"errors": []}'])
def test_what_is_no_registry_is_told(website: Website, small_registry: SmallRegistry, content: bytes) -> None:
    repository = OciUri.parse(f"oci://{website.url.removeprefix('http://')}/{REPOSITORY}")
    website.put(f"/v2/{REPOSITORY}/tags/list", content)
    with Registry(repository) as registry:
        said = reason(lambda: list_tags(registry, pytest.fail))
    assert said.startswith(f"the server at {repository.registry} is not a registry (")


def test_where_nobody_listens_it_is_told(small_registry: SmallRegistry, free_port: int, tmp_path: Path) -> None:
    nobody = OciUri.parse(f"oci://127.0.0.1:{free_port}/a:0123456789ab")
    assert pull_reason(nobody, tmp_path).startswith(
        f"the registry 127.0.0.1:{free_port} cannot be reached ([Errno 111] Connection refused): check its name"
    )


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def over_tls(tmp_path: Path, user_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Website]:
    """A website that is called over TLS although it is on loopback; its authority is in authority.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setattr("pipeline.store.oci.registry.is_loopback", lambda _: False)
    with running_website(context) as site:
        yield site


def tags_over_tls(site: Website) -> list[str]:
    with Registry(OciUri.parse(f"oci://{site.url.removeprefix('https://')}/{REPOSITORY}")) as registry:
        return registry.tags()


def test_an_unknown_authority_is_told_with_what_names_it(over_tls: Website, no_docker: Path) -> None:
    said = reason(lambda: tags_over_tls(over_tls))
    assert "certificate verify failed" in said
    assert said.endswith("check its name, the network, SSL_CERT_FILE")


def test_over_tls_nobody_is_led_away_from_it(
    over_tls: Website, website: Website, no_docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    note(no_docker, over_tls.url.removeprefix("https://"))
    path = f"/v2/{REPOSITORY}/tags/list"
    over_tls.put(path, b'{"tags": ["a"]}')
    assert tags_over_tls(over_tls) == ["a"]
    over_tls.put(path, b"", 307, Location=f"{website.url}{path}")
    assert "it redirects from https to http" in reason(lambda: tags_over_tls(over_tls))
    challenge = {"WWW-Authenticate": f'Bearer realm="{website.url}/token",service="x"'}
    over_tls.put(path, b"", 401, **challenge)
    assert "it redirects from https to http" in reason(lambda: tags_over_tls(over_tls))
    assert website.asked == []


# --- What is on the way -----------------------------------------------------------------------------------------------


def test_an_interrupted_push_leaves_no_tag_and_goes_on(
    small_registry: SmallRegistry, repository: OciUri, large: Files
) -> None:
    artefact = artefact_of(Version.of(large), large)

    def trouble(visit: SmallVisit) -> bool:
        if visit.command == "PUT" and artefact.layers[ARCHIVE].digest in visit.path.replace("%3A", ":"):
            visit.rfile.read(1000)
            visit.close_connection = True
            return True
        return False

    small_registry.trouble = trouble
    assert "cannot be reached" in reason(lambda: push(repository, large))
    assert small_registry.tagged == {}
    kept = set(small_registry.blobs)
    assert kept
    small_registry.trouble = lambda _: False
    small_registry.calls.clear()
    uri = push(repository, large)
    assert list(small_registry.tagged) == [uri.tag]
    sent = [call for call in small_registry.calls if call.startswith("POST")]
    assert len(sent) == len(set(small_registry.blobs) - kept)


def test_a_file_that_changes_meanwhile_is_told(
    small_registry: SmallRegistry, repository: OciUri, small: Files, tmp_path: Path
) -> None:
    archive = tmp_path / "alexnet.mar"
    archive.write_bytes(small[ARCHIVE].read_bytes())
    files = {**small, ARCHIVE: archive}
    for change in (lambda content: content + b"x", lambda content: content[:-1], lambda content: content[:-1] + b"x"):

        def trouble(visit: SmallVisit, change: Callable[[bytes], bytes] = change) -> bool:
            if visit.command == "POST":
                archive.write_bytes(change(small[ARCHIVE].read_bytes()))
            return False

        archive.write_bytes(small[ARCHIVE].read_bytes())
        small_registry.trouble = trouble
        assert "changed while it was being published: run this again" in reason(lambda: push(repository, files))
        assert small_registry.tagged == {}


@pytest.mark.parametrize("change", ["cut", "longer", "shorter", "another"])
def test_what_arrives_otherwise_is_not_kept(
    small_registry: SmallRegistry, repository: OciUri, large: Files, tmp_path: Path, change: str
) -> None:
    uri = push(repository, large)
    digest = artefact_of(Version.of(large), large).layers[ARCHIVE].digest
    layer = small_registry.blobs[digest]

    def trouble(visit: SmallVisit) -> bool:
        if visit.command != "GET" or not visit.path.endswith(digest):
            return False
        if change == "cut":
            visit.close_connection = True
            return visit.answer(200, layer[: len(layer) // 2], Content_Length=str(len(layer)))
        content = {"longer": layer + b"x", "shorter": layer[:-1], "another": layer[:5000] + b"x" + layer[5001:]}[change]
        return visit.answer(200, content)

    small_registry.trouble = trouble
    said = pull_reason(uri, tmp_path)
    assert {
        "cut": "cannot be reached",
        "longer": "has more bytes than its size",
        "shorter": "has fewer bytes than its size",
        "another": f"the layer with {ARCHIVE} is not what was published",
    }[change] in said


@pytest.mark.parametrize("digest_first", [True, False])
def test_a_manifest_that_was_changed_is_not_what_its_digest_says(
    small_registry: SmallRegistry, repository: OciUri, small: Files, tmp_path: Path, digest_first: bool
) -> None:
    uri = push(repository, small)
    media_type, content = small_registry.manifests[uri.digest]
    small_registry.manifests[uri.digest] = (media_type, content + b" ")
    said = pull_reason(uri if digest_first else replace(uri, digest=""), tmp_path)
    assert ("is not what its digest says" if digest_first else "has a manifest that does not match its files") in said


@pytest.mark.parametrize("what", ["manifest", "tags", "error"])
def test_answers_without_an_end_are_not_read_to_it(
    small_registry: SmallRegistry, repository: OciUri, what: str, tmp_path: Path
) -> None:
    def trouble(visit: SmallVisit) -> bool:
        visit.send_response(500 if what == "error" else 200)
        visit.end_headers()
        visit.close_connection = True
        try:
            while True:
                visit.wfile.write(bytes(100_000))
        except ConnectionError:
            return True

    small_registry.trouble = trouble
    with Registry(repository) as registry:
        if what == "tags":
            assert "its list of tags has more than 4000000 bytes" in reason(registry.tags)
        elif what == "manifest":
            assert "its manifest has more than 4000000 bytes" in reason(lambda: registry.manifest("a"))
        else:
            assert "answers 500" in reason(lambda: registry.manifest("a"))


def test_a_layer_that_is_gone_is_told_without_reading_the_others(
    small_registry: SmallRegistry, repository: OciUri, small: Files, tmp_path: Path
) -> None:
    uri = push(repository, small)
    del small_registry.blobs[artefact_of(Version.of(small), small).layers[ARCHIVE].digest]
    with Registry(uri) as registry:
        said = reason(lambda: read_whole(registry, uri))
    assert said == f"{uri}: the layer with {ARCHIVE} is missing: publish the same archive again to restore it"
    assert "is missing: publish the same archive again" in pull_reason(uri, tmp_path)
    assert push(repository, small) == uri  # it is restored
    assert pull(uri, tmp_path).is_dir()


def test_layers_that_are_stored_elsewhere_come_from_there_without_the_credentials(
    small_registry: SmallRegistry, repository: OciUri, website: Website, no_docker: Path, small: Files, tmp_path: Path
) -> None:
    small_registry.wants = "basic"
    note(no_docker, small_registry.address)
    uri = push(repository, small)
    for digest, content in small_registry.blobs.items():
        website.put(f"/{digest}", content)

    def trouble(visit: SmallVisit) -> bool:
        at_blob = visit.command == "GET" and "/blobs/" in visit.path
        return at_blob and visit.answer(307, Location=f"{website.url}/{visit.path.rpartition('/')[2]}?signed=1")

    small_registry.trouble = trouble
    assert pull(uri, tmp_path).is_dir()
    assert website.asked
    assert "Authorization" not in website.headers


@pytest.mark.parametrize("wants", ["", "basic", "bearer"])
def test_a_server_that_a_registry_redirects_to_is_never_given_the_credentials(
    small_registry: SmallRegistry, repository: OciUri, website: Website, no_docker: Path, small: Files, wants: str
) -> None:
    """CVE-2020-15157: it asks for them itself, with a realm of its own."""
    small_registry.wants = wants
    note(no_docker, small_registry.address)
    uri = push(repository, small)
    challenge = f'Bearer realm="{website.url}/token",service="x"'
    website.put("/elsewhere", b"", 401, **{"WWW-Authenticate": challenge})
    website.put("/token", b'{"token": "abc"}')

    def trouble(visit: SmallVisit) -> bool:
        return "/manifests/" in visit.path and visit.answer(307, Location=f"{website.url}/elsewhere")

    small_registry.trouble = trouble
    with Registry(repository) as registry:
        reason(lambda: read_whole(registry, uri))
    assert set(website.asked) == {"/elsewhere"}
    assert "Authorization" not in website.headers
    assert "Bearer abc" not in small_registry.authorizations


def test_nothing_is_sent_where_a_registry_points_elsewhere(
    small_registry: SmallRegistry, repository: OciUri, website: Website, small: Files
) -> None:
    small_registry.trouble = lambda visit: (
        visit.command == "POST" and visit.answer(202, Location=f"{website.url}/v2/x/blobs/uploads/1")
    )
    assert "it points to another server" in reason(lambda: push(repository, small))
    assert website.asked == []


def test_tags_come_in_pages(small_registry: SmallRegistry, repository: OciUri, small: Files) -> None:
    uri = push(repository, small)
    for number in range(1500):
        small_registry.tagged[f"tag-{number:04}"] = uri.digest
    with Registry(repository) as registry:
        assert len(registry.tags()) == 1501
        assert [found for found, _ in list_tags(registry, pytest.fail)] == [uri]
