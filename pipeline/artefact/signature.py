"""Signatures of the archive and its config.properties, in the format of OpenSSF's model-signing, made by its library.

A signature is one file, a Sigstore bundle: a DSSE envelope around an in-toto statement, which lists the SHA-256 of each
file that is signed. Here a key signs, from a file or elsewhere; keyless.py signs with an identity.

config.properties is signed too: it says what TorchServe loads, from where, and who may reach its management port.
kserve/runtime/server/signature.py checks the same in the serving image, which lacks this library.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from model_signing import hashing, verifying
from model_signing._signing import sign_ec_key  # its public API takes only files: pinned, and tested
from model_signing._signing.signing import Payload
from sigstore.errors import VerificationError

from pipeline.artefact.keyless import Identity, Keyless
from pipeline.artefact.private_key import CURVES, PrivateKey, read_private_key
from pipeline.artefact.version import ARCHIVE_NAME, CONFIG, Version, archive_among
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import (
    ChangedSinceSigned,
    KeyUnusable,
    NoSignature,
    NotSignedBy,
    PipelineError,
    SignatureOfAnother,
    SignedFileMissing,
    naming,
)
from pipeline.shared.text import one_line
from pipeline.shared.whole import written_whole

MOST_BYTES = 1_000_000  # of a signature's few thousand

# The signed files, config.properties and the archive: their names when published → the files.
Files = Mapping[str, Path]


class Signer:
    """A private key, ready to sign.

    Raises KeyUnusable if a file has no key that model-signing accepts, OSError if it cannot be read.
    """

    def __init__(self, key: Path | PrivateKey) -> None:
        self._signer = _Signer(read_private_key(key) if isinstance(key, Path) else key)
        self.public_key = self._signer.public_key()

    def sign(self, files: Files, signature: Path) -> None:
        """Writes the signature, or keeps a valid one: a new one would differ, and so would the version's name."""
        with tempfile.TemporaryDirectory(prefix="alexnet-key-") as scratch:
            public_key = Path(scratch) / "public.pem"
            public_key.write_bytes(self.public_key)
            with suppress(PipelineError):
                verify(files, signature, public_key)
                return
            made = Path(scratch) / "signature"
            with _laid_out(files) as directory:
                payload = Payload(_hashing().hash(directory))
            self._signer.sign(payload).write(made)
            with naming(signature), written_whole(signature) as file:
                file.write(made.read_bytes())


class _Signer(sign_ec_key.Signer):
    """model-signing's, with a key that has been read, or is elsewhere."""

    def __init__(self, key: PrivateKey) -> None:
        self._private_key = key  # type: ignore[assignment]  # it uses only what a PrivateKey has

    def public_key(self) -> bytes:
        """In PEM."""
        return self._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class KeylessSigner:
    """The identity that this runs as, ready to sign. Raises what Keyless raises."""

    def __init__(self, trust_config: Path | None = None) -> None:
        self._keyless = Keyless(trust_config)

    def sign(self, files: Files, signature: Path) -> Identity:
        """Writes the signature, a new one each time. Returns who signed. Raises NoIdentity, NotSigned."""
        with tempfile.TemporaryDirectory(prefix="alexnet-key-") as scratch:
            made, trust_root = Path(scratch) / "signature", Path(scratch) / "trust_root"
            with _laid_out(files) as directory:
                identity = self._keyless.sign(directory, _hashing(), made, trust_root)
            verify(files, made, identity)
            with naming(signature), written_whole(signature) as file:
                file.write(made.read_bytes())
        return identity


def verify(files: Files, signature: Path, by: Path | Identity) -> None:
    """Raises PipelineError unless `by` signed exactly these files, OSError if one cannot be read.

    by: a public key's file, or an identity.
    """
    asked = "a public key" if isinstance(by, Path) else "an identity"
    with tempfile.TemporaryDirectory(prefix="alexnet-trust-") as scratch:
        config = _verifying(by) if isinstance(by, Path) else by.verifying(Path(scratch))
    if not signature.is_file():
        raise NoSignature(signature, asked)
    for file in files.values():
        if not file.is_file():
            raise SignedFileMissing(file, asked)
    if signature.stat().st_size > MOST_BYTES:
        raise NotSignedBy(_name(by), signature)
    config.set_hashing_config(_hashing())
    with _laid_out(files) as directory:
        try:
            with redirect_stdout(io.StringIO()):  # the library prints warnings about its first releases' signatures
                config.verify(directory, signature)
        except OSError:
            raise
        except Exception as error:  # json, base64, pydantic, cryptography and the library each have errors of their own
            if str(error).startswith("Signature mismatch: "):
                raise ChangedSinceSigned(_differing(files, signature), signature) from None
            why = str(error) if isinstance(error, VerificationError) else ""
            raise NotSignedBy(_name(by), signature, one_line(why)) from None


def _verifying(public_key: Path) -> verifying.Config:
    """Raises KeyUnusable."""
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise KeyUnusable(public_key, "is not a public ECDSA key in PEM: openssl ec -in KEY -pubout makes it")
    return verifying.Config().use_elliptic_key_verifier(public_key=public_key)


def _name(by: Path | Identity) -> str:
    return f"the key {by}" if isinstance(by, Path) else str(by)


def check_fit(version: Version, signature: Path) -> None:
    """Raises SignatureOfAnother unless it is for this version's files. Does not check who signed."""
    signed = _signed(signature)
    for name in version.signed:
        if signed.get(name) != version.objects[name].sha256:
            raise SignatureOfAnother(Path(name).name, signature)


def is_of_an_archive(signature: Path) -> bool:
    """Whether a file is what `Signer.sign` writes, with any key: an unrelated file may have the same name."""
    if not signature.is_file() or signature.stat().st_size > MOST_BYTES:
        return False
    signed = sorted(_signed(signature))
    return len(signed) == 2 and signed[0] == CONFIG and ARCHIVE_NAME.fullmatch(signed[1]) is not None


def _hashing() -> hashing.Config:
    """SHA-256 of every file, including git's own."""
    config = hashing.Config()
    return config.set_ignored_paths(paths=(), ignore_git_paths=False).set_allow_symlinks(True)


@contextmanager
def _laid_out(files: Files) -> Iterator[Path]:
    """A folder with these files and no others, so that the signature covers both of them and nothing else."""
    with tempfile.TemporaryDirectory(prefix="alexnet-sign-") as scratch:
        directory = Path(scratch) / Path(archive_among(files)).stem  # its name is written into the signature
        for name, file in files.items():
            (directory / name).parent.mkdir(parents=True)
            (directory / name).symlink_to(file.absolute())
        yield directory


def _signed(signature: Path) -> dict[str, str]:
    """Names → SHA-256 of the files that a signature claims to cover; empty if it is not a signature."""
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        payload = json.loads(base64.b64decode(json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]))
        return {str(entry["name"]): str(entry["digest"]) for entry in payload["predicate"]["resources"]}
    return {}


def _differing(files: Files, signature: Path) -> Path:
    """The file that our signature does not match."""
    signed = _signed(signature)
    for name, file in files.items():
        if sha256_of(file) != signed.get(name):
            return file
    return files[archive_among(files)]  # the signature lists more than these two
