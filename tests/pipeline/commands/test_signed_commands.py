"""A signature's way through the scripts: package.sh makes it, publish.sh sends it, serve.sh asks for it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.keyless import Identity
from pipeline.artefact.signature import KeylessSigner, Signer, verify
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, Version
from pipeline.commands.files import signed_files
from pipeline.commands.package import package
from pipeline.shared.errors import PipelineError
from pipeline.store import cloud_kms
from tests.support.kms_server import KEY, Kms, kms_server
from tests.support.scripts import Start
from tests.support.sigstore_server import PROVIDER, WORKFLOW, sigstore_server

pytestmark = pytest.mark.usefixtures("one_worker")

Files = Mapping[str, Path]
Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key, and its public key."""
    private = ec.generate_private_key(ec.SECP256R1())
    key, public_key = tmp_path / "key.pem", tmp_path / "key.pub"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_key.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, public_key


@pytest.fixture
def signed(small: Files, keys: tuple[Path, Path], tmp_path: Path) -> Files:
    """The files of a version with a signature: the archive has one beside it."""
    archive, signature = tmp_path / "alexnet.mar", tmp_path / "alexnet.mar.sig"
    shutil.copy(small[ARCHIVE], archive)
    Signer(keys[0]).sign({CONFIG: small[CONFIG], ARCHIVE: archive}, signature)
    return {CONFIG: small[CONFIG], ARCHIVE: archive, SIGNATURE: signature}


# --- scripts/package.sh -----------------------------------------------------------------------------------------------


def test_package_signs_beside_the_archive_and_unsigned_none_is_left(
    script: Script, checkout: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    key, public_key = keys
    arguments = ("package", "--weights", "untrained", "--output", "made/alexnet.mar")
    done = script(*arguments, "--sign", key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "signed   made/alexnet.mar.sig"
    archive, signature = tmp_path / "made" / "alexnet.mar", tmp_path / "made" / "alexnet.mar.sig"
    files = {CONFIG: checkout / "config.properties", ARCHIVE: archive}
    verify(files, signature, public_key)
    assert f"\nversion  {Version.of({**files, SIGNATURE: signature}).name}\n" in done.stdout
    assert script(*arguments).returncode == 0
    assert [file.name for file in archive.parent.iterdir()] == ["alexnet.mar"]


def unread(file: Path) -> tuple[int, ...]:
    """What changes where a file does, or another comes in its place."""
    now = file.lstat()
    return now.st_ino, now.st_mode, now.st_size, now.st_mtime_ns, now.st_ctime_ns


@pytest.mark.parametrize("sign", [False, True])
def test_a_file_that_is_no_signature_of_its_own_is_never_replaced_or_deleted(
    script: Script, only_error: OnlyError, keys: tuple[Path, Path], tmp_path: Path, sign: bool
) -> None:
    """gpg --detach-sign and openssl dgst -sign name their files so too."""
    signature = tmp_path / "alexnet.mar.sig"
    foreign: list[Callable[[], object]] = [
        lambda: signature.write_bytes(b"\x89\x02\x33\x04\x00 of gpg"),
        lambda: signature.write_text('{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}'),
        lambda: signature.write_text("[" * 100_000),
        lambda: signature.symlink_to("nowhere"),
        lambda: signature.mkdir(),
    ]
    for make in foreign:
        make()
        before = unread(signature)
        options = ("--sign", keys[0]) if sign else ()
        said = only_error(script("package", "--weights", "untrained", "--output", "alexnet.mar", *options))
        assert said == (
            "alexnet.mar.sig already exists, and is not a signature from this script: "
            "move it away, or give --output another name"
        )
        assert unread(signature) == before
        assert not (tmp_path / "alexnet.mar").exists()
        signature.rmdir() if signature.is_dir() else signature.unlink()


@pytest.mark.parametrize("wrong", ["none.pem", "key.pub"])
def test_a_key_that_cannot_sign_is_told_before_anything_is_built(
    script: Script, only_error: OnlyError, keys: tuple[Path, Path], tmp_path: Path, wrong: str
) -> None:
    output = tmp_path / "made" / "alexnet.mar"
    sentence = only_error(script("package", "--weights", "untrained", "--output", output, "--sign", tmp_path / wrong))
    assert sentence.startswith(str(tmp_path / wrong))
    assert not output.parent.exists()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user_environment: None) -> Iterator[Kms]:
    """For the command in this process: a script asks Google's own."""
    with kms_server() as made:
        monkeypatch.setattr(cloud_kms, "API", made.api)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(made.credentials(tmp_path)))
        yield made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network that is packed in no time."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n"
        "def build(classes):\n    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))\n"
    )
    torch.save({"2.weight": torch.arange(96.0).view(2, 48) / 100, "2.bias": torch.zeros(2)}, tmp_path / "pets.pth")
    (tmp_path / "pets.csv").write_text("index,wnid,label\n0,,beagle\n1,,tabby\n")
    (tmp_path / "pets.yaml").write_text(
        "{name: pets, architecture: 'net.py:build', weights: pets.pth, labels: pets.csv, "
        "preprocessing: {resize: 40, crop: 32}}"
    )
    return tmp_path / "pets.yaml"


def test_package_signs_with_a_key_in_cloud_kms_and_leaves_its_public_key(
    kms: Kms, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second finds what the first has left
        package(model, output=Path("pets.mar"), sign=f"gcpkms://{KEY}/cryptoKeyVersions/1")
        assert capsys.readouterr().out.splitlines()[-2:] == ["signed   pets.mar.sig", "key      pets.mar.pub"]
    assert (tmp_path / "pets.mar.pub").read_bytes() == kms.public_key()
    verify(signed_files(tmp_path / "pets.mar"), tmp_path / "pets.mar.sig", tmp_path / "pets.mar.pub")
    assert [call for call, _ in kms.asked] == ["publicKey", "asymmetricSign", "publicKey"]


def test_somebody_elses_file_in_the_place_of_the_public_key_is_never_replaced(
    kms: Kms, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "pets.mar.pub").write_text("of the pets")
    with pytest.raises(PipelineError, match=r"pets\.mar\.pub already exists, and is not a public key: move it away"):
        package(model, output=tmp_path / "pets.mar", sign=f"gcpkms://{KEY}/cryptoKeyVersions/1")
    assert (tmp_path / "pets.mar.pub").read_text() == "of the pets"
    assert not (tmp_path / "pets.mar").exists()


@pytest.mark.parametrize("said", ["awskms:///alias/publisher", "pkcs11:token=models", "https://example.org/key.pem"])
def test_a_key_of_a_kind_that_is_not_taken_is_told(script: Script, only_error: OnlyError, said: str) -> None:
    sentence = only_error(script("package", "--weights", "untrained", "--output", "alexnet.mar", "--sign", said))
    assert sentence == f"{said} is not a supported key: expected a file, gcpkms://projects/…, or sigstore"


def test_a_trust_configuration_is_for_sigstore_alone(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    for options in ((), ("--sign", tmp_path / "key.pem")):
        sentence = only_error(script("package", "--weights", "untrained", "--trust-config", "config.json", *options))
        assert sentence == "--trust-config is for --sign sigstore: give both, or neither"


# --- scripts/publish.sh -----------------------------------------------------------------------------------------------


def test_the_signature_is_a_part_of_the_version(script: Script, cloud: Any, small: Files, signed: Files) -> None:
    done = script("publish", f"gs://{cloud.bucket}", "--archive", signed[ARCHIVE])
    assert done.returncode == 0, done.stderr
    name = Version.of(signed).name
    assert name != Version.of(small).name
    assert done.stdout == f"gs://{cloud.bucket}/{name}\n"
    assert cloud.objects().keys() == {f"{name}/{part}" for part in (CONFIG, ARCHIVE, SIGNATURE, "version.json")}
    assert cloud.read(f"{name}/{SIGNATURE}") == signed[SIGNATURE].read_bytes()


def test_an_archive_that_changed_since_it_was_signed_is_not_published(
    script: Script, only_error: OnlyError, cloud: Any, large: Files, signed: Files
) -> None:
    shutil.copy(large[ARCHIVE], signed[ARCHIVE])
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", signed[ARCHIVE]))
    assert sentence.startswith(f"{signed[SIGNATURE]} is the signature of another alexnet.mar: ")
    assert cloud.calls == []


# --- scripts/serve.sh -------------------------------------------------------------------------------------------------


def test_a_version_without_the_signature_of_the_key_is_not_served(
    script: Script,
    only_error: OnlyError,
    cloud: Any,
    small: Files,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE]).stdout.rstrip("\n")
    sentence = only_error(script("serve", uri, "--public-key", keys[1]))
    kept = tmp_path / "cache" / "torchserve-alexnet" / Version.of(small).name
    assert sentence.startswith(f"no signature at {kept / SIGNATURE}, and a public key is set: ")


def test_a_version_with_the_signature_of_another_key_is_not_served(
    script: Script,
    only_error: OnlyError,
    cloud: Any,
    signed: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = tmp_path / "other.pub"
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    uri = script("publish", f"gs://{cloud.bucket}", "--archive", signed[ARCHIVE]).stdout.rstrip("\n")
    sentence = only_error(script("serve", uri, "--public-key", other))
    kept = tmp_path / "cache" / "torchserve-alexnet" / Version.of(signed).name
    assert sentence == f"{kept / SIGNATURE} is not a signature by the key {other}"


def test_the_variable_asks_for_the_signature_too(
    script: Script, only_error: OnlyError, small: Files, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    for name, file in small.items():
        (tmp_path / "models" / name).parent.mkdir(parents=True)
        shutil.copy(file, tmp_path / "models" / name)
    environment = {"ALEXNET_PUBLIC_KEY": str(keys[1])}
    sentence = only_error(script("serve", tmp_path / "models", environment=environment))
    assert sentence.startswith(f"no signature at {tmp_path / 'models' / SIGNATURE}, ")


def test_an_empty_variable_is_not_taken_for_none(
    script: Script, only_error: OnlyError, small: Files, tmp_path: Path
) -> None:
    sentence = only_error(script("serve", tmp_path, environment={"ALEXNET_PUBLIC_KEY": ""}))
    assert sentence == "ALEXNET_PUBLIC_KEY is set, but empty: set it to what --public-key takes, or unset it"


NAMED = {"--identity": WORKFLOW, "--identity-provider": PROVIDER, "--trust-root": "trusted_root.json"}


@pytest.mark.parametrize("missing", NAMED)
def test_an_identity_is_told_whole(script: Script, only_error: OnlyError, tmp_path: Path, missing: str) -> None:
    options = [word for option, value in NAMED.items() if option != missing for word in (option, value)]
    assert only_error(script("serve", tmp_path, *options)) == f"an identity needs {missing} too"


@pytest.mark.parametrize("option", NAMED)
def test_a_key_or_an_identity_is_trusted(
    script: Script, only_error: OnlyError, keys: tuple[Path, Path], tmp_path: Path, option: str
) -> None:
    sentence = only_error(script("serve", tmp_path, "--public-key", keys[1], option, NAMED[option]))
    assert sentence == f"--public-key and {option} exclude each other: trust either a key or an identity"


def test_an_empty_identity_is_not_taken_for_none(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    sentence = only_error(script("serve", tmp_path, environment={"ALEXNET_IDENTITY": ""}))
    assert sentence == "ALEXNET_IDENTITY is set, but empty: set it to what --identity takes, or unset it"
    options = [word for option, value in NAMED.items() for word in (option, value)] + ["--identity-provider", ""]
    assert only_error(script("serve", tmp_path, *options)) == "the identity or its provider is empty: name both"


# --- Without a key ----------------------------------------------------------------------------------------------------


def test_a_workflow_signs_without_a_key_and_others_are_not_served(
    script: Script, only_error: OnlyError, model: Path, tmp_path: Path
) -> None:
    """From package.sh, in a workflow of GitHub's, to serve.sh, which asks nobody any more."""
    with sigstore_server() as sigstore:
        trust_root, config = sigstore.write(tmp_path)
        options = ("--output", "pets.mar", "--sign", "sigstore", "--trust-config", config)
        done = script("package", model, *options, environment=sigstore.of_the_workflow())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "signed   pets.mar.sig",
        f"identity {WORKFLOW}",
        f"provider {PROVIDER}",
    ]
    who = {"ALEXNET_IDENTITY": "somebody@example.org", "ALEXNET_IDENTITY_PROVIDER": PROVIDER}
    sentence = only_error(script("serve", "pets.mar", environment=who | {"ALEXNET_TRUST_ROOT": str(trust_root)}))
    assert sentence.startswith(f"pets.mar.sig is not a signature by somebody@example.org of {PROVIDER} (Certificate's ")
    verify(signed_files(tmp_path / "pets.mar"), tmp_path / "pets.mar.sig", Identity(WORKFLOW, PROVIDER, trust_root))


def test_what_an_identity_has_signed_is_served(
    start: Start, directory: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    for name in (CONFIG, ARCHIVE):
        (models / name).parent.mkdir(parents=True)
        (models / name).symlink_to(directory / name)
    with sigstore_server() as sigstore, monkeypatch.context() as patched:
        trust_root, config = sigstore.write(tmp_path)
        for variable, value in sigstore.of_the_workflow().items():
            patched.setenv(variable, value)
        KeylessSigner(config).sign({name: models / name for name in (CONFIG, ARCHIVE)}, models / SIGNATURE)
    options = ("--identity", WORKFLOW, "--identity-provider", PROVIDER, "--trust-root", trust_root)
    serving = start("serve", models, "--port", port, *options)
    assert serving.stdout is not None
    assert "ready after" in serving.stdout.readline()
    serving.send_signal(signal.SIGINT)
    _, said = serving.communicate(timeout=60)
    assert serving.returncode == 0, said


def test_what_the_key_has_signed_is_served(
    start: Start, light_directory: Path, keys: tuple[Path, Path], tmp_path: Path, port: int
) -> None:
    key, public_key = keys
    models = tmp_path / "models"
    for name in (CONFIG, ARCHIVE):
        (models / name).parent.mkdir(parents=True)
        (models / name).symlink_to(light_directory / name)
    Signer(key).sign({name: models / name for name in (CONFIG, ARCHIVE)}, models / SIGNATURE)
    serving = start("serve", models, "--port", port, "--public-key", public_key)
    assert serving.stdout is not None
    assert "ready after" in serving.stdout.readline()
    serving.send_signal(signal.SIGINT)
    _, said = serving.communicate(timeout=60)
    assert serving.returncode == 0, said
