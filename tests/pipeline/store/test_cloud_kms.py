"""A key in Cloud KMS signs like one in a file; answers that Google does not document end in one line."""

from __future__ import annotations

import base64
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from urllib3 import Retry

from pipeline.artefact.signature import Signer, verify
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE
from pipeline.shared.errors import CredentialsUnusable, KeyUnusable, PipelineError
from pipeline.store import cloud_kms
from pipeline.store.cloud_kms import CloudKmsKey, is_in_cloud_kms
from server.public_key import PublicKey
from server.signature import check_signature
from tests.support.kms_server import KEY, Kms, Version, crc32c, kms_server

NAME = f"{KEY}/cryptoKeyVersions/1"
SAID = f"gcpkms://{NAME}"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user_environment: None) -> Iterator[Kms]:
    with kms_server() as made:
        monkeypatch.setattr(cloud_kms, "API", made.api)
        monkeypatch.setattr(cloud_kms, "AGAIN", cloud_kms.AGAIN.new(backoff_factor=0))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(made.credentials(tmp_path)))
        yield made


@pytest.fixture
def models(small: Mapping[str, Path], tmp_path: Path) -> Path:
    """A folder in KServe's layout, not signed yet."""
    made = tmp_path / "models"
    for name, file in small.items():
        (made / name).parent.mkdir(parents=True)
        shutil.copy(file, made / name)
    return made


def files(models: Path) -> dict[str, Path]:
    return {name: models / name for name in (CONFIG, ARCHIVE)}


def sign(models: Path, said: str = SAID) -> None:
    Signer(CloudKmsKey.parse(said)).sign(files(models), models / SIGNATURE)


# --- What it signs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["EC_SIGN_P256_SHA256", "EC_SIGN_P384_SHA384"])
def test_what_it_has_signed_is_served_with_its_public_key(
    kms: Kms, models: Path, tmp_path: Path, algorithm: str
) -> None:
    kms.versions[NAME] = Version.of(algorithm)
    sign(models)
    public_key = tmp_path / "key.pub"
    public_key.write_bytes(kms.public_key())
    verify(files(models), models / SIGNATURE, public_key)
    assert check_signature(models, PublicKey(public_key)).archive == ARCHIVE


def test_nothing_but_a_hash_is_sent(kms: Kms, models: Path) -> None:
    sign(models)
    (_, nothing), (call, body) = kms.asked
    assert nothing == {}
    assert call == "asymmetricSign"
    digest = base64.b64decode(body["digest"]["sha256"])
    assert body == {"digest": {"sha256": base64.b64encode(digest).decode()}, "digestCrc32c": crc32c(digest)}
    assert len(digest) == 32


def test_a_signature_of_this_version_that_holds_is_kept(kms: Kms, models: Path) -> None:
    sign(models)
    before = (models / SIGNATURE).read_bytes()
    sign(models)
    assert (models / SIGNATURE).read_bytes() == before
    assert [call for call, _ in kms.asked] == ["publicKey", "asymmetricSign", "publicKey"]


def test_after_a_rotation_the_new_version_signs_and_the_old_public_key_verifies_no_more(
    kms: Kms, models: Path, tmp_path: Path
) -> None:
    sign(models)
    kms.versions[f"{KEY}/cryptoKeyVersions/2"] = Version.of("EC_SIGN_P256_SHA256")
    sign(models, f"gcpkms://{KEY}/cryptoKeyVersions/2")
    old, new = tmp_path / "1.pub", tmp_path / "2.pub"
    old.write_bytes(kms.public_key(1))
    new.write_bytes(kms.public_key(2))
    verify(files(models), models / SIGNATURE, new)
    with pytest.raises(PipelineError, match=rf"is not a signature by the key {old}$"):
        verify(files(models), models / SIGNATURE, old)


# --- How it is named --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [SAID, NAME, f"gcpkms://{KEY}/versions/1"])
def test_a_version_is_named_as_google_and_as_cosign_name_it(said: str) -> None:
    assert is_in_cloud_kms(said)
    assert CloudKmsKey.parse(said).name == NAME
    assert str(CloudKmsKey.parse(said)) == SAID


@pytest.mark.parametrize(
    "said",
    [
        f"gcpkms://{KEY}",  # without a version, it would change with a rotation
        f"gcpkms://{KEY}/cryptoKeyVersions/0",
        f"gcpkms://{KEY}/cryptoKeyVersions/latest",
        f"gcpkms://{NAME}/more",
        f"gcpkms://{NAME}:destroy",
        f"gcpkms://{NAME}?alt=media",
        f"gcpkms://{NAME}\n",
        f"gcpkms://{NAME.replace('fashion', 'fashion?')}",
        f"gcpkms://{NAME.replace('europe-west4', '%2e%2e')}",
        f"gcpkms:///{NAME}",
        f"gcpkms://{KEY.replace('publisher', '../publisher')}/cryptoKeyVersions/1",
        "gcpkms://",
        "projects/",
    ],
)
def test_what_names_no_version_is_told_with_what_would(said: str) -> None:
    with pytest.raises(KeyUnusable, match=r"is not a version of a key in Cloud KMS: expected gcpkms://projects/PROJ"):
        CloudKmsKey.parse(said)


def test_files_are_no_keys_of_cloud_kms() -> None:
    assert not is_in_cloud_kms("key.pem")
    assert not is_in_cloud_kms("./projects/key.pem")


# --- What it refuses --------------------------------------------------------------------------------------------------


def fault(models: Path, said: str = SAID) -> str:
    """The one-line message of a failed signing, which writes nothing."""
    with pytest.raises(PipelineError) as refusal:
        sign(models, said)
    assert not (models / SIGNATURE).exists()
    (line,) = str(refusal.value).splitlines()
    return line


@pytest.mark.parametrize("missing", ["viewPublicKey", "useToSign"])
def test_a_missing_permission_is_told_with_the_role(kms: Kms, models: Path, missing: str) -> None:
    kms.allowed -= {missing}
    denied = f"Permission 'cloudkms.cryptoKeyVersions.{missing}' denied on resource '{NAME}'."
    assert (
        fault(models) == f"{SAID} may not be used ({denied}): ask its owner for the role roles/cloudkms.signerVerifier"
    )


def test_a_version_that_is_not_there_is_told(kms: Kms, models: Path) -> None:
    said = f"gcpkms://{KEY}/cryptoKeyVersions/2"
    assert fault(models, said) == (
        f"{said} does not exist (CryptoKeyVersion {KEY}/cryptoKeyVersions/2 not found.): "
        "gcloud kms keys versions list shows those that do"
    )


@pytest.mark.parametrize("state", ["DISABLED", "DESTROY_SCHEDULED", "PENDING_GENERATION"])
def test_a_version_that_is_not_enabled_is_told(kms: Kms, models: Path, state: str) -> None:
    kms.versions[NAME].state = state
    assert fault(models) == (
        f"{SAID} does not sign ({NAME} is not enabled, current state is: {state}.): "
        "gcloud kms keys versions describe shows its state"
    )


def test_a_key_of_another_kind_is_told(kms: Kms, models: Path) -> None:
    kms.versions[NAME] = Version.of("EC_SIGN_SECP256K1_SHA256")
    assert fault(models) == (
        f"{SAID} is a key with the algorithm EC_SIGN_SECP256K1_SHA256: make another with gcloud kms keys create "
        "--purpose=asymmetric-signing --default-algorithm=ec-sign-p256-sha256"
    )


def test_credentials_that_it_does_not_accept_are_told(kms: Kms, models: Path) -> None:
    kms.instead = lambda call: (401, b'{"error": {"code": 401, "message": "Request had invalid credentials."}}')
    assert fault(models).startswith(f"{SAID}: the credentials are not accepted (Request had invalid credentials.): ")


@pytest.mark.usefixtures("no_credentials")
def test_no_credentials_are_told(models: Path) -> None:
    with pytest.raises(CredentialsUnusable, match=rf"^no Google Cloud credentials for {SAID} \("):
        sign(models)


@pytest.mark.parametrize("status", [429, 503])
def test_an_outage_is_told_after_three_tries(kms: Kms, models: Path, status: int) -> None:
    kms.instead = lambda call: (status, b'{"error": {"message": "Not now."}}')
    assert fault(models) == f"{SAID}: Cloud KMS keeps answering {status} (Not now.): run this again in a few minutes"
    assert len(kms.asked) == 3


def test_a_moment_without_it_does_not_matter(kms: Kms, models: Path) -> None:
    left = [503, 503]
    kms.instead = lambda call: (left.pop(), b"{}") if left else None
    sign(models)


# --- What is not as documented ----------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]
OTHER = ec.generate_private_key(ec.SECP256R1())


def with_another_signature(answer: dict[str, Any]) -> None:
    """With the right checksum."""
    signature = OTHER.sign(b"something else", ec.ECDSA(SHA256()))
    answer |= {"signature": base64.b64encode(signature).decode(), "signatureCrc32c": crc32c(signature)}


@pytest.mark.parametrize(
    ("call", "change"),
    [
        ("publicKey", lambda answer: answer.update(pemCrc32c="1")),
        ("publicKey", lambda answer: answer.update(pem=answer["pem"].replace("A", "B"))),
        ("asymmetricSign", lambda answer: answer.update(signatureCrc32c="1")),
        ("asymmetricSign", lambda answer: answer.update(verifiedDigestCrc32c=False)),
        ("asymmetricSign", lambda answer: answer.update(signature="")),
        ("asymmetricSign", with_another_signature),
    ],
)
def test_what_was_damaged_on_its_way_is_told(kms: Kms, models: Path, call: str, change: Change) -> None:
    kms.change = lambda asked, answer: change(answer) if asked == call else None
    assert fault(models) == f"{SAID}: data was damaged on its way to or from Cloud KMS: run this again"


@pytest.mark.parametrize(
    ("call", "change"),
    [
        ("publicKey", lambda answer: answer.update(name=f"{KEY}/cryptoKeyVersions/2")),
        ("publicKey", lambda answer: answer.pop("pem")),
        ("publicKey", lambda answer: answer.update(pem="-", pemCrc32c=crc32c(b"-"))),
        ("publicKey", lambda answer: answer.update(pem=["-"])),
        ("asymmetricSign", lambda answer: answer.update(name=f"{KEY}/cryptoKeyVersions/2")),
        ("asymmetricSign", lambda answer: answer.pop("verifiedDigestCrc32c")),
        ("asymmetricSign", lambda answer: answer.update(signature="ä")),
    ],
)
def test_an_answer_of_something_else_is_told(kms: Kms, models: Path, call: str, change: Change) -> None:
    kms.change = lambda asked, answer: change(answer) if asked == call else None
    assert fault(models) == f"{SAID}: the server that answered is not Cloud KMS: check HTTPS_PROXY"


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b"null", b"[]", b'{"error": "text"}', b"[" * 100_000])
@pytest.mark.parametrize("status", [200, 302, 403])
def test_a_page_in_the_place_of_an_answer_is_told(kms: Kms, models: Path, status: int, body: bytes) -> None:
    kms.instead = lambda call: (status, body)
    assert fault(models) == f"{SAID}: the server that answered is not Cloud KMS: check HTTPS_PROXY"


def test_words_from_elsewhere_stay_on_one_line(kms: Kms, models: Path) -> None:
    kms.instead = lambda call: (403, b'{"error": {"message": "no\\nerror: forged"}}')
    assert "forged" not in fault(models)


def test_nobody_there_is_told(kms: Kms, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setattr(cloud_kms, "API", f"http://127.0.0.1:{port}/v1/")
    said = fault(models)
    assert said.startswith(f"{SAID}: Cloud KMS cannot be reached (")
    assert said.endswith("): check the network, HTTPS_PROXY and NO_PROXY")


def test_one_that_never_answers_is_given_up(kms: Kms, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(cloud_kms, "API", f"http://127.0.0.1:{silent.getsockname()[1]}/v1/")
        monkeypatch.setattr(cloud_kms, "TIMEOUT_S", (5, 0.1))
        assert fault(models).startswith(f"{SAID}: Cloud KMS cannot be reached (127.0.0.1:")


def test_it_is_asked_again_but_not_for_ever() -> None:
    """Google's own advice: with growing pauses. The server cannot set their length."""
    assert isinstance(cloud_kms.AGAIN, Retry)
    assert cloud_kms.AGAIN.get_backoff_time() <= 1
    assert not cloud_kms.AGAIN.respect_retry_after_header
