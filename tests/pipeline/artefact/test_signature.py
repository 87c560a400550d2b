"""Signatures: what the key has signed is served, and nothing else. The library of OpenSSF's model-signing, with which
serve.sh checks, and the lines of the serving image that do without it, are asked the same questions."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from model_signing import hashing as library_hashing
from model_signing import signing

from pipeline.artefact.private_key import UNLOCKED_BY
from pipeline.artefact.signature import Signer, check_fit, is_of_an_archive, verify
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, Version
from pipeline.shared.errors import PipelineError
from server.errors import NotServed
from server.public_key import PublicKey
from server.signature import check_signature

Fault = Callable[[Path, Path], str | None]


def write_keys(folder: Path, private: Any, password: bytes | None = None) -> tuple[Path, Path]:
    """The files of a private key and of its public key."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    folder.mkdir(exist_ok=True)
    key, public = folder / "key.pem", folder / "key.pub"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def models(small: Mapping[str, Path], tmp_path: Path) -> Path:
    """A folder in KServe's layout, for a test to sign and to change."""
    made = tmp_path / "models"
    for name, file in small.items():
        (made / name).parent.mkdir(parents=True)
        shutil.copy(file, made / name)
    return made


def files(models: Path) -> dict[str, Path]:
    return {name: models / name for name in (CONFIG, ARCHIVE)}


@pytest.fixture
def signed(models: Path, keys: tuple[Path, Path]) -> Path:
    Signer(keys[0]).sign(files(models), models / SIGNATURE)
    return models


def test_it_takes_the_place_of_no_other_file(models: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Where others may write too, as in /tmp, they could have put a link where a part of it is written."""
    (tmp_path / "precious").write_text("precious")
    (models / f".{SIGNATURE}.part").symlink_to(tmp_path / "precious")
    Signer(keys[0]).sign(files(models), models / SIGNATURE)
    assert fault_for_serve_sh(models, keys[1]) is None
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_it_makes_is_told_from_other_files(signed: Path, keys: tuple[Path, Path]) -> None:
    assert is_of_an_archive(signed / SIGNATURE)
    assert not is_of_an_archive(keys[0])
    assert not is_of_an_archive(signed)


def fault_for_serve_sh(models: Path, public_key: Path) -> str | None:
    try:
        verify(files(models), models / SIGNATURE, public_key)
    except PipelineError as refusal:
        return str(refusal)
    except OSError as error:  # the command tells it with its file, as any other
        return f"{error.filename}: {error.strerror}"
    return None


def fault_for_the_image(models: Path, public_key: Path) -> str | None:
    try:
        check_signature(models, PublicKey(public_key))
    except NotServed as refusal:
        return str(refusal).removesuffix(": TorchServe is not started, since ALEXNET_PUBLIC_KEY is set")
    return None


@pytest.fixture(params=["serve.sh", "image"])
def fault(request: pytest.FixtureRequest) -> Fault:
    """Why a folder is not served with a public key, in one line; None where it is."""
    return fault_for_serve_sh if request.param == "serve.sh" else fault_for_the_image


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


# --- What was signed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_the_key_has_signed_is_served(fault: Fault, models: Path, tmp_path: Path, curve: Any) -> None:
    key, public_key = write_keys(tmp_path / "keys", ec.generate_private_key(curve))
    Signer(key).sign(files(models), models / SIGNATURE)
    assert fault(models, public_key) is None


def test_what_else_lies_beside_it_does_not_matter(fault: Fault, signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "version.json").write_text("{}")
    (signed / "model-store" / "README.md").write_text("not loaded: config.properties says what is")
    assert fault(signed, keys[1]) is None


def test_the_command_of_the_library_agrees(signed: Path, keys: tuple[Path, Path]) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("model_signing"), "verify", "key", signed]
    command += ["--signature", signed / SIGNATURE, "--public_key", keys[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "OpenSSL"])
def test_a_key_with_a_password_signs(
    fault: Fault, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: PrivateFormat
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key, public_key = write_keys(tmp_path / "keys", private)
    key.write_bytes(private.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"open sesame")))
    monkeypatch.setenv(UNLOCKED_BY, "open sesame")
    Signer(key).sign(files(models), models / SIGNATURE)
    assert fault(models, public_key) is None


def test_a_signature_that_holds_is_kept(signed: Path, keys: tuple[Path, Path]) -> None:
    before = (signed / SIGNATURE).read_bytes()
    Signer(keys[0]).sign(files(signed), signed / SIGNATURE)
    assert (signed / SIGNATURE).read_bytes() == before


def test_one_that_does_not_is_replaced(fault: Fault, signed: Path, keys: tuple[Path, Path]) -> None:
    change_a_byte(signed / ARCHIVE)
    Signer(keys[0]).sign(files(signed), signed / SIGNATURE)
    assert fault(signed, keys[1]) is None
    assert sorted(file.name for file in signed.iterdir()) == ["config", "model-store", SIGNATURE]


# --- What was not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
def test_a_changed_byte_is_told_with_its_file(fault: Fault, signed: Path, keys: tuple[Path, Path], name: str) -> None:
    change_a_byte(signed / name)
    assert str(fault(signed, keys[1])) == f"{signed / name} is not what was signed ({signed / SIGNATURE})"


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE, SIGNATURE])
def test_what_is_missing_is_told_with_its_name(fault: Fault, signed: Path, keys: tuple[Path, Path], name: str) -> None:
    (signed / name).unlink()
    said = str(fault(signed, keys[1]))
    if name == ARCHIVE and fault is fault_for_the_image:  # which would take any archive that is there
        assert said.startswith(f"{signed / 'model-store'} has no archive NAME.mar")
    else:
        assert str(signed / name) in said


def test_the_signature_of_another_key_is_refused(
    fault: Fault, signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    _, other = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    assert fault(signed, other) == f"{signed / SIGNATURE} is not a signature by the key {other}"


def test_the_signature_of_another_archive_is_refused(
    fault: Fault, signed: Path, keys: tuple[Path, Path], large: Mapping[str, Path]
) -> None:
    shutil.copy(large[ARCHIVE], signed / ARCHIVE)
    assert str(fault(signed, keys[1])).startswith(f"{signed / ARCHIVE} is not what was signed")


def library_signs(key: Path, directory: Path, signature: Path, config: library_hashing.Config | None = None) -> None:
    signer = signing.Config().use_elliptic_key_signer(private_key=key)
    signer.set_hashing_config(config or library_hashing.Config()).sign(directory, signature)


@pytest.mark.parametrize("left_out", [CONFIG, ARCHIVE])
def test_a_signature_of_less_is_refused(
    fault: Fault, models: Path, keys: tuple[Path, Path], tmp_path: Path, left_out: str
) -> None:
    """The library's own switch for files that are not signed would let it pass."""
    less = shutil.copytree(models, tmp_path / "less")
    (less / left_out).unlink()
    library_signs(keys[0], less, models / SIGNATURE)
    assert str(fault(models, keys[1])).startswith(f"{models / left_out} is not what was signed")


def test_a_signature_of_more_is_refused(fault: Fault, models: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    more = shutil.copytree(models, tmp_path / "more")
    (more / "more").touch()
    library_signs(keys[0], more, models / SIGNATURE)
    assert fault(models, keys[1]) is not None


def test_a_signature_with_another_digest_is_refused(fault: Fault, models: Path, keys: tuple[Path, Path]) -> None:
    config = library_hashing.Config().use_file_serialization(hashing_algorithm="blake3")
    library_signs(keys[0], models, models / SIGNATURE, config)
    assert fault(models, keys[1]) is not None


def with_payload_changed(bundle: dict[str, Any]) -> None:
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def with_another_payload_type(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def without_signatures(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


def with_an_empty_signature(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = ""


def with_a_signature_that_is_no_base64(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "ä"


def without_an_envelope(bundle: dict[str, Any]) -> None:
    del bundle["dsseEnvelope"]


@pytest.mark.parametrize(
    "change",
    [
        with_payload_changed,
        with_another_payload_type,
        without_signatures,
        with_an_empty_signature,
        with_a_signature_that_is_no_base64,
        without_an_envelope,
    ],
)
def test_a_changed_signature_is_refused(
    fault: Fault, signed: Path, keys: tuple[Path, Path], change: Callable[[dict[str, Any]], None]
) -> None:
    bundle = json.loads((signed / SIGNATURE).read_text())
    change(bundle)
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    assert fault(signed, keys[1]) == f"{signed / SIGNATURE} is not a signature by the key {keys[1]}"


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_signature_is_refused(fault: Fault, signed: Path, keys: tuple[Path, Path], text: bytes) -> None:
    (signed / SIGNATURE).write_bytes(text)
    assert fault(signed, keys[1]) == f"{signed / SIGNATURE} is not a signature by the key {keys[1]}"


def hand_signed(key: Path, models: Path, kind: str = "application/vnd.in-toto+json", **changes: Any) -> str:
    """A signature that is as it should be, but for the changes to its statement."""
    digests = {name: hashlib.sha256((models / name).read_bytes()) for name in (CONFIG, ARCHIVE)}
    root = hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": True}
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "alexnet", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": changes.pop("serialization", serialization),
            "resources": changes.pop("resources", None)
            or [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()} for name, digest in digests.items()
            ],
        },
    }
    payload = json.dumps(statement | changes).encode()
    private = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signature = private.sign(encoded, ec.ECDSA(SHA256()))
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hashlib.sha256(public).hexdigest()}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle)


def test_a_signature_made_by_hand_is_one(fault: Fault, models: Path, keys: tuple[Path, Path]) -> None:
    (models / SIGNATURE).write_text(hand_signed(keys[0], models))
    assert fault(models, keys[1]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "text/plain"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"predicate": None},
        {"serialization": {"method": "other", "hash_type": "sha256", "allow_symlinks": True}},
        {"resources": [{"name": CONFIG, "algorithm": "sha256", "digest": "00"}] * 2},
        {"resources": ["text"]},
    ],
    ids=str,
)
def test_what_the_key_has_signed_to_say_something_else_is_refused(
    fault: Fault, models: Path, keys: tuple[Path, Path], changes: dict[str, Any]
) -> None:
    """A key that is in use elsewhere too."""
    (models / SIGNATURE).write_text(hand_signed(keys[0], models, **changes))
    assert fault(models, keys[1]) is not None


def test_the_archive_that_the_settings_name_is_the_one_that_has_to_be_signed(
    models: Path, keys: tuple[Path, Path]
) -> None:
    """In the image, where nothing else says which it is."""
    config = (models / CONFIG).read_text().replace("load_models=all", "load_models=other.mar")
    (models / CONFIG).write_text(config)
    other = shutil.copy(models / ARCHIVE, models / "model-store" / "other.mar")
    Signer(keys[0]).sign(files(models), models / SIGNATURE)
    assert fault_for_the_image(models, keys[1]) == f"{other} is not what was signed ({models / SIGNATURE})"


def test_an_archive_that_takes_the_place_of_the_signed_one_has_to_be_signed(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    """The settings name none: whatever is alone in the store would be loaded."""
    other = (signed / ARCHIVE).rename(signed / "model-store" / "other.mar")
    assert fault_for_the_image(signed, keys[1]) == f"{other} is not what was signed ({signed / SIGNATURE})"


@pytest.mark.parametrize("kind", ["an archive", "a folder", "a link", "a broken link"])
def test_a_second_archive_beside_the_signed_one_is_refused(signed: Path, keys: tuple[Path, Path], kind: str) -> None:
    other = signed / "model-store" / "other.mar"
    if kind == "an archive":
        shutil.copy(signed / ARCHIVE, other)
    elif kind == "a folder":
        other.mkdir()
    else:
        other.symlink_to("alexnet.mar" if kind == "a link" else "gone")
    said = fault_for_the_image(signed, keys[1])
    assert said is not None
    assert said.startswith(f"{signed / 'model-store'} has more than one archive (alexnet.mar, other.mar)")


def test_what_was_checked_is_what_is_served(signed: Path, keys: tuple[Path, Path]) -> None:
    """Whatever comes into the store afterwards: TorchServe is told the name of the one archive."""
    folder = check_signature(signed, PublicKey(keys[1]))
    shutil.copy(signed / ARCHIVE, signed / "model-store" / "other.mar")
    (signed / ARCHIVE).unlink()
    assert folder.archive == ARCHIVE


def test_the_archive_of_another_model_is_signed_under_its_name(
    models: Path, keys: tuple[Path, Path], large: Mapping[str, Path]
) -> None:
    (models / ARCHIVE).rename(models / "model-store" / "pets.mar")
    pets = {name: models / name for name in (CONFIG, "model-store/pets.mar")}
    Signer(keys[0]).sign(pets, models / SIGNATURE)
    verify(pets, models / SIGNATURE, keys[1])
    assert fault_for_the_image(models, keys[1]) is None
    shutil.copy(large[ARCHIVE], models / "model-store" / "pets.mar")
    assert fault_for_the_image(models, keys[1]) == (
        f"{models / 'model-store' / 'pets.mar'} is not what was signed ({models / SIGNATURE})"
    )


def test_settings_that_are_not_signed_are_not_even_read(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / CONFIG).write_bytes(b"load_models=\xff\n")
    assert str(fault_for_the_image(signed, keys[1])).startswith(f"{signed / CONFIG} is not what was signed")


# --- Keys -------------------------------------------------------------------------------------------------------------

UNUSABLE = [
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ed25519.Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP256K1()),
]


@pytest.mark.parametrize("private", UNUSABLE, ids=["RSA", "Ed25519", "secp256k1"])
def test_keys_of_other_kinds_are_told_in_one_line(fault: Fault, signed: Path, tmp_path: Path, private: Any) -> None:
    key, public_key = write_keys(tmp_path / "other", private)
    assert str(fault(signed, public_key)).startswith(f"{public_key} is not a public ECDSA key in PEM")
    with pytest.raises(PipelineError, match=rf"^{key} is not an ECDSA key on the curve P-256, P-384 or P-521: "):
        Signer(key)


def test_a_private_key_is_no_public_key(fault: Fault, signed: Path, keys: tuple[Path, Path]) -> None:
    assert str(fault(signed, keys[0])).startswith(f"{keys[0]} is not a public ECDSA key in PEM")


def test_a_public_key_that_is_missing_is_named(fault: Fault, signed: Path, tmp_path: Path) -> None:
    """It is never taken for a key that was not asked for."""
    assert str(fault(signed, tmp_path / "none.pub")).startswith(str(tmp_path / "none.pub"))


def test_what_is_no_private_key_is_told_in_one_line(keys: tuple[Path, Path]) -> None:
    with pytest.raises(PipelineError, match=rf"^{keys[1]} is not a private key in PEM: make one with: "):
        Signer(keys[1])


@pytest.mark.parametrize(
    ("of_the_key", "given", "told"),
    [
        (b"open sesame", "", f"is protected by a password: set {UNLOCKED_BY}"),
        (b"open sesame", "open barley", f"is not a private key in PEM, or {UNLOCKED_BY} is wrong"),
        (None, "open sesame", f"has no password: unset {UNLOCKED_BY}"),
    ],
)
def test_a_password_that_does_not_fit_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_the_key: bytes | None, given: str, told: str
) -> None:
    key, _ = write_keys(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()), of_the_key)
    monkeypatch.setenv(UNLOCKED_BY, given)
    with pytest.raises(PipelineError) as refusal:
        Signer(key)
    assert str(refusal.value) == f"{key} {told}"


# --- At publishing ----------------------------------------------------------------------------------------------------


def test_a_signature_fits_its_own_version(signed: Path) -> None:
    check_fit(Version.of(files(signed)), signed / SIGNATURE)


def test_a_signature_of_another_archive_does_not_fit(signed: Path, large: Mapping[str, Path]) -> None:
    other = Version.of(files(signed) | {ARCHIVE: large[ARCHIVE]})
    with pytest.raises(PipelineError, match=r"is the signature of another alexnet\.mar: sign again"):
        check_fit(other, signed / SIGNATURE)


def test_a_signature_of_another_configuration_does_not_fit(signed: Path) -> None:
    change_a_byte(signed / CONFIG)
    with pytest.raises(PipelineError, match=r"is the signature of another config\.properties: sign again"):
        check_fit(Version.of(files(signed)), signed / SIGNATURE)


@pytest.mark.parametrize("text", [b"", b"null", b"{}", b"\xff\xfe"])
def test_what_is_no_signature_does_not_fit(signed: Path, text: bytes) -> None:
    (signed / SIGNATURE).write_bytes(text)
    with pytest.raises(PipelineError, match=r"is the signature of another config\.properties: sign again"):
        check_fit(Version.of(files(signed)), signed / SIGNATURE)
