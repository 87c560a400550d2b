"""Signatures without a key: what an identity has signed is served, and nothing else, without asking any network.

Sigstore's own client signs here, with services on loopback that make what the real ones do. serve.sh and the serving
image are asked the same questions.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.keyless import Identity
from pipeline.artefact.signature import KeylessSigner, Signer, check_fit, is_of_an_archive, verify
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, Version
from pipeline.shared.errors import NoIdentity, NotSigned, PipelineError
from server.errors import NotServed
from server.identity import Identity as IdentityOfTheImage
from server.signature import check_signature
from server.trust import trusted_folder
from tests.support.sigstore_server import PROVIDER, WORKFLOW, Sigstore, new_key, sigstore_server

WHO = f"{WORKFLOW} of {PROVIDER}"


@contextmanager
def as_the_workflow(sigstore: Sigstore) -> Iterator[None]:
    nothing_else = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with patch.dict(os.environ, nothing_else | sigstore.of_the_workflow(), clear=True):
        yield


@dataclass(frozen=True)
class Made:
    """What the workflow has signed, and where the trust root is that says so."""

    models: Path
    trust_root: Path
    sigstore: Sigstore


def files(models: Path) -> dict[str, Path]:
    return {name: models / name for name in (CONFIG, ARCHIVE)}


@pytest.fixture(scope="module")
def published(small: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The services are gone by the time that anybody verifies."""
    models = tmp_path_factory.mktemp("keyless") / "models"
    for name, file in small.items():
        (models / name).parent.mkdir(parents=True)
        shutil.copy(file, models / name)
    with sigstore_server() as sigstore, as_the_workflow(sigstore):
        trust_root, config = sigstore.write(models.parent)
        signer = KeylessSigner(config)
        assert str(signer.sign(files(models), models / SIGNATURE)) == WHO
    return Made(models, trust_root, sigstore)


@pytest.fixture
def made(published: Made, tmp_path: Path) -> Made:
    """For a test to change."""
    models = Path(shutil.copytree(published.models, tmp_path / "models"))
    return replace(published, models=models, trust_root=Path(shutil.copy(published.trust_root, tmp_path)))


Fault = Callable[..., str | None]


def fault_for_serve_sh(made: Made, name: str = WORKFLOW, provider: str = PROVIDER) -> str | None:
    try:
        verify(files(made.models), made.models / SIGNATURE, Identity(name, provider, made.trust_root))
    except PipelineError as refusal:
        return str(refusal)
    except OSError as error:  # the command tells it with its file, as any other
        return f"{error.filename} cannot be read ({error.strerror})"
    return None


def fault_for_the_image(made: Made, name: str = WORKFLOW, provider: str = PROVIDER) -> str | None:
    try:
        check_signature(made.models, IdentityOfTheImage(name, provider, made.trust_root))
    except NotServed as refusal:
        return str(refusal)
    return None


@pytest.fixture(params=["serve.sh", "image"])
def fault(request: pytest.FixtureRequest) -> Fault:
    """Why a folder is not served with an identity, in one line; None where it is."""
    return fault_for_serve_sh if request.param == "serve.sh" else fault_for_the_image


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Whoever verifies asks nobody."""
    if "sigstore" in request.fixturenames:  # for who signs
        return

    def connect(*_: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


# --- What was signed --------------------------------------------------------------------------------------------------


def test_what_the_identity_has_signed_is_served_without_a_network(fault: Fault, made: Made) -> None:
    assert fault(made) is None


def test_the_whole_configuration_is_as_good_a_trust_root(made: Made) -> None:
    made.trust_root.write_text(json.dumps(made.sigstore.trust_config()))
    assert fault_for_serve_sh(made) is None


def test_it_is_a_signature_of_this_version_as_any_other(made: Made) -> None:
    assert is_of_an_archive(made.models / SIGNATURE)
    check_fit(Version.of(files(made.models)), made.models / SIGNATURE)


# --- What was not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
def test_a_changed_byte_is_told_with_its_file(fault: Fault, made: Made, name: str) -> None:
    content = bytearray((made.models / name).read_bytes())
    content[len(content) // 2] ^= 1
    (made.models / name).write_bytes(content)
    assert fault(made) == f"{made.models / name} is not what was signed ({made.models / SIGNATURE})"


def test_a_signature_that_is_missing_is_told(fault: Fault, made: Made) -> None:
    (made.models / SIGNATURE).unlink()
    assert str(made.models / SIGNATURE) in str(fault(made))


@pytest.mark.parametrize("other", ["", "x", "\n"])
def test_another_identity_is_refused(fault: Fault, made: Made, other: str) -> None:
    name = f"{WORKFLOW}{other}" if other else "https://github.com/fashion/models"
    said = str(fault(made, name=name))
    assert said.startswith(f"{made.models / SIGNATURE} is not a signature by {name} of {PROVIDER} (")
    assert WORKFLOW in said.partition("actual SANs: ")[2]  # who it is by


@pytest.mark.parametrize("provider", ["https://gitlab.com", f"{PROVIDER}/", PROVIDER.upper()])
def test_another_provider_is_refused(fault: Fault, made: Made, provider: str) -> None:
    said = str(fault(made, provider=provider))
    assert said.startswith(f"{made.models / SIGNATURE} is not a signature by {WORKFLOW} of {provider} (")
    assert PROVIDER in said


@pytest.mark.parametrize("key", ["root", "certificates", "rekor"])
def test_a_trust_root_with_another_key_is_one_of_another_sigstore(fault: Fault, made: Made, key: str) -> None:
    """Of the authority, of the log of certificates, of the log of signatures."""
    changes: dict[str, Any] = {key: new_key()} | ({"ca": new_key()} if key == "root" else {})
    made.trust_root.write_text(json.dumps(replace(made.sigstore, **changes).trusted_root()))
    said = str(fault(made))
    assert said.startswith(f"{made.models / SIGNATURE} is not a signature by {WHO} (")


def test_an_authority_that_had_expired_by_then_vouches_for_nobody(fault: Fault, made: Made) -> None:
    expired = replace(made.sigstore, authorities_end=-timedelta(days=1))
    made.trust_root.write_text(json.dumps(expired.trusted_root()))
    assert str(fault(made)).startswith(f"{made.models / SIGNATURE} is not a signature by {WHO} (")


def test_the_public_sigstore_does_not_vouch_for_a_private_one(fault: Fault, made: Made, checkout: Path) -> None:
    public = checkout / "kserve" / "components" / "identity" / "trusted_root.json"
    assert str(fault(replace(made, trust_root=public))).startswith(f"{made.models / SIGNATURE} is not a signature by ")


def with_payload_changed(bundle: dict[str, Any]) -> None:
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def with_a_changed_letter(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(bundle: dict[str, Any]) -> None:
        inside: Any = bundle
        for key in path[:-1]:
            inside = inside[key]
        content = inside[path[-1]]
        at = len(content) // 2
        while not content[at].isalnum():
            at += 1
        inside[path[-1]] = content[:at] + ("B" if content[at] == "A" else "A") + content[at + 1 :]

    return change


ENTRY = ("verificationMaterial", "tlogEntries", 0)


def with_another_time(bundle: dict[str, Any]) -> None:
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)


def without_a_promise(bundle: dict[str, Any]) -> None:
    """Nobody says then when it was."""
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def without_a_proof(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]


def without_an_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def without_a_certificate(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["certificate"]


def without_signatures(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


@pytest.mark.parametrize(
    "change",
    [
        with_payload_changed,
        with_a_changed_letter("dsseEnvelope", "signatures", 0, "sig"),
        with_a_changed_letter("dsseEnvelope", "payloadType"),
        with_a_changed_letter("verificationMaterial", "certificate", "rawBytes"),
        with_a_changed_letter(*ENTRY, "canonicalizedBody"),
        with_a_changed_letter(*ENTRY, "inclusionPromise", "signedEntryTimestamp"),
        with_a_changed_letter(*ENTRY, "inclusionProof", "rootHash"),
        with_a_changed_letter(*ENTRY, "inclusionProof", "hashes", 0),
        with_a_changed_letter(*ENTRY, "inclusionProof", "checkpoint", "envelope"),
        with_another_time,
        without_a_promise,
        without_a_proof,
        without_an_entry,
        without_a_certificate,
        without_signatures,
    ],
)
def test_a_changed_signature_is_refused(fault: Fault, made: Made, change: Callable[[dict[str, Any]], None]) -> None:
    bundle = json.loads((made.models / SIGNATURE).read_text())
    change(bundle)
    (made.models / SIGNATURE).write_text(json.dumps(bundle))
    said = str(fault(made))
    assert said.startswith(f"{made.models / SIGNATURE} is not a signature by {WHO}")
    assert "\n" not in said


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_signature_is_refused(fault: Fault, made: Made, text: bytes) -> None:
    (made.models / SIGNATURE).write_bytes(text)
    assert fault(made) == f"{made.models / SIGNATURE} is not a signature by {WHO}"


def test_a_key_signs_for_no_identity_and_an_identity_for_no_key(fault: Fault, made: Made, tmp_path: Path) -> None:
    key, public_key = tmp_path / "key.pem", tmp_path / "key.pub"
    private = new_key()
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_key.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(PipelineError, match=rf"is not a signature by the key {public_key}$"):
        verify(files(made.models), made.models / SIGNATURE, public_key)
    (made.models / SIGNATURE).unlink()
    Signer(key).sign(files(made.models), made.models / SIGNATURE)
    assert fault(made) == f"{made.models / SIGNATURE} is not a signature by {WHO}"


# --- Who is trusted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"mediaType": "text/plain"}', b"-----BEGIN"]
)
def test_what_is_no_trust_root_is_told(fault: Fault, made: Made, text: bytes) -> None:
    made.trust_root.write_bytes(text)
    assert str(fault(made)).startswith(f"{made.trust_root} is not a trust root of Sigstore")


@pytest.mark.parametrize("part", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_a_trust_root_that_lacks_a_part_trusts_nobody(fault: Fault, made: Made, part: str) -> None:
    made.trust_root.write_text(json.dumps(made.sigstore.trusted_root() | {part: []}))
    assert fault(made) is not None


def test_a_trust_root_that_is_missing_is_named(fault: Fault, made: Made) -> None:
    made.trust_root.unlink()
    assert fault(made) == f"{made.trust_root} cannot be read (No such file or directory)"


@pytest.mark.parametrize(("name", "provider"), [("", PROVIDER), (WORKFLOW, ""), ("", "")])
def test_an_empty_name_is_not_taken_for_any(made: Made, name: str, provider: str) -> None:
    """As Sigstore's library takes an empty provider."""
    assert fault_for_serve_sh(made, name, provider) == "the identity or its provider is empty: name both"


NAMES = ("ALEXNET_IDENTITY", "ALEXNET_IDENTITY_PROVIDER", "ALEXNET_TRUST_ROOT")


def test_the_image_is_told_by_three_variables(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(NAMES, (WORKFLOW, PROVIDER, made.trust_root), strict=True):
        monkeypatch.setenv(name, str(value))
    assert trusted_folder(made.models).archive == ARCHIVE
    monkeypatch.setenv("ALEXNET_IDENTITY", "somebody@example.org")
    with pytest.raises(NotServed, match=r": TorchServe is not started, since ALEXNET_IDENTITY is set$"):
        trusted_folder(made.models)


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.parametrize("empty", [False, True])
def test_the_image_serves_nothing_where_one_of_them_is_missing(
    made: Made, monkeypatch: pytest.MonkeyPatch, missing: str, empty: bool
) -> None:
    for name, value in zip(NAMES, (WORKFLOW, PROVIDER, made.trust_root), strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv(missing, "") if empty else monkeypatch.delenv(missing)
    with pytest.raises(NotServed, match=rf"^an identity needs {missing} too: TorchServe is not started, since "):
        trusted_folder(made.models)


@pytest.mark.parametrize("name", NAMES)
def test_the_image_takes_a_key_or_an_identity(made: Made, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ALEXNET_PUBLIC_KEY", "/etc/alexnet/key.pub")
    monkeypatch.setenv(name, "something")
    with pytest.raises(NotServed, match=rf"^{name} is set too: trust either a key or an identity: TorchServe is "):
        trusted_folder(made.models)


def test_an_image_without_sigstore_says_how_to_build_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sigstore.models", None)
    assert fault_for_the_image(made) == "this image cannot verify identities: build one with make image KEYLESS=yes"


# --- Who signs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sigstore() -> Iterator[Sigstore]:
    with sigstore_server() as running, as_the_workflow(running):
        yield running


def sign(sigstore: Sigstore, models: Path) -> None:
    _, config = sigstore.write(models.parent)
    KeylessSigner(config).sign(files(models), models / SIGNATURE)


def refusal(sigstore: Sigstore, models: Path, kind: type[PipelineError] = NotSigned) -> str:
    """The one line with which signing ends; what was there before is there."""
    before = (models / SIGNATURE).read_bytes()
    with pytest.raises(kind) as raised:
        sign(sigstore, models)
    assert (models / SIGNATURE).read_bytes() == before
    (line,) = str(raised.value).splitlines()
    return line


def test_each_signature_is_another(sigstore: Sigstore, made: Made) -> None:
    before = (made.models / SIGNATURE).read_bytes()
    sign(sigstore, made.models)
    assert (made.models / SIGNATURE).read_bytes() != before


def test_one_that_comes_too_late_for_its_certificate_is_refused(sigstore: Sigstore, made: Made) -> None:
    sigstore.log_later = timedelta(minutes=11)
    said = refusal(sigstore, made.models, PipelineError)
    assert f"is not a signature by {WHO} (" in said


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v2/signingCert", "403 Client Error: Forbidden for url: "),
        ("/api/v1/log/entries", "Rekor returned an unknown error with HTTP 403"),
        ("/.well-known/openid-configuration", "403 Client Error: Forbidden for url: "),
    ],
)
def test_a_service_that_refuses_is_told(sigstore: Sigstore, made: Made, path: str, told: str) -> None:
    sigstore.refuse[path] = (403, b"{}")
    assert refusal(sigstore, made.models).startswith(f"Sigstore has not signed ({told}")


@pytest.mark.parametrize("path", ["/api/v2/signingCert", "/api/v1/log/entries", "/.well-known/openid-configuration"])
@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b"{}", b"[]"])
def test_a_page_in_the_place_of_an_answer_is_told(sigstore: Sigstore, made: Made, path: str, body: bytes) -> None:
    sigstore.refuse[path] = (200, body)
    assert refusal(sigstore, made.models).startswith("Sigstore has not signed (")


def test_a_certificate_that_no_log_has_seen_is_refused(sigstore: Sigstore, made: Made) -> None:
    _, config = sigstore.write(made.models.parent)
    sigstore.certificates = new_key()
    with pytest.raises(NotSigned, match=r"^Sigstore has not signed \(SCT verify failed: keyring: invalid signature\)"):
        KeylessSigner(config).sign(files(made.models), made.models / SIGNATURE)


def test_a_provider_that_gives_no_token_is_told(sigstore: Sigstore, made: Made) -> None:
    sigstore.refuse["/token"] = (403, b"{}")
    said = refusal(sigstore, made.models, NoIdentity)
    assert said.startswith(
        "this runs in the cloud, but cannot sign with its identity (GitHub: OIDC token request failed (code=403"
    )


def test_a_workflow_that_may_not_ask_who_it_is_is_told(
    sigstore: Sigstore, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    assert "missing or insufficient OIDC token permissions" in refusal(sigstore, made.models, NoIdentity)


def test_nobody_is_told_how_to_be_somebody(sigstore: Sigstore, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "BUILDKITE", "GITLAB_CI", "CIRCLECI"):
        monkeypatch.delenv(name, raising=False)
    said = refusal(sigstore, made.models, NoIdentity)
    assert said.startswith(
        "there is no identity to sign with: run this in GitHub Actions (with permissions: id-token: write)"
    )


def test_nobody_there_is_told(sigstore: Sigstore, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        config = json.dumps(sigstore.trust_config()).replace(f":{sigstore.port}", f":{gone.getsockname()[1]}")
    (made.models.parent / "trust_config.json").write_text(config)
    with pytest.raises(NotSigned, match=r"Connection refused.*\): check the network, or sign with a key$"):
        KeylessSigner(made.models.parent / "trust_config.json").sign(files(made.models), made.models / SIGNATURE)
