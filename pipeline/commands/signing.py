"""package.sh --sign: who signs, and the files that go next to the archive."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.files import relative, signature_beside, signed_files
from pipeline.shared.errors import KeyUnusable, PipelineError, naming
from pipeline.shared.whole import written_whole

if TYPE_CHECKING:  # its library takes 0.9 s
    from pipeline.artefact.signature import KeylessSigner, Signer

SIGSTORE = "sigstore"  # for --sign: without a key
MOST_BYTES = 10_000  # of a public key's few hundred


@dataclass(frozen=True)
class WithKey:
    """public_key: where to write it, if the private key is not a local file."""

    signer: Signer
    public_key: Path | None = None

    def sign(self, archive: Path) -> list[str]:
        """Returns the lines to print."""
        signature = signature_beside(archive)
        self.signer.sign(signed_files(archive), signature)
        if self.public_key is None:
            return [f"signed   {relative(signature)}"]
        with naming(self.public_key), written_whole(self.public_key) as file:
            file.write(self.signer.public_key)
        return [f"signed   {relative(signature)}", f"key      {relative(self.public_key)}"]


@dataclass(frozen=True)
class WithoutKey:
    """As an identity, with Sigstore."""

    signer: KeylessSigner
    public_key: None = None

    def sign(self, archive: Path) -> list[str]:
        """Returns the lines to print."""
        signature = signature_beside(archive)
        identity = self.signer.sign(signed_files(archive), signature)
        return [f"signed   {relative(signature)}", f"identity {identity.name}", f"provider {identity.provider}"]


Signing = WithKey | WithoutKey


def signing(said: str | None, trust_config: Path | None, archive: Path) -> Signing | None:
    """From --sign and --trust-config. Raises PipelineError if they cannot sign, OSError if a file cannot be read."""
    if trust_config is not None and said != SIGSTORE:
        raise PipelineError(f"--trust-config is for --sign {SIGSTORE}: give both, or neither")
    if said is None:
        return None
    from pipeline.artefact.signature import KeylessSigner, Signer
    from pipeline.store.cloud_kms import CloudKmsKey, is_in_cloud_kms

    if said == SIGSTORE:
        return WithoutKey(KeylessSigner(trust_config))
    if is_in_cloud_kms(said):
        return WithKey(Signer(CloudKmsKey.parse(said)), archive.with_name(archive.name + ".pub"))
    if re.match(r"[a-z][a-z0-9+.-]*:", said):
        raise KeyUnusable(said, f"is not a supported key: expected a file, gcpkms://projects/…, or {SIGSTORE}")
    return WithKey(Signer(Path(said)))


def check_beside(archive: Path, signing: Signing | None) -> None:
    """Checks the files that will be replaced or deleted. Raises PipelineError if one is not ours."""
    signature = signature_beside(archive)
    if os.path.lexists(signature):
        from pipeline.artefact.signature import is_of_an_archive

        if not is_of_an_archive(signature):
            raise _in_the_way(signature, "not a signature from this script")
    if signing and signing.public_key and os.path.lexists(signing.public_key) and not _is_key(signing.public_key):
        raise _in_the_way(signing.public_key, "not a public key")


def _is_key(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < MOST_BYTES and b"-----BEGIN PUBLIC KEY-----" in file.read_bytes()


def _in_the_way(file: Path, kind: str) -> PipelineError:
    return PipelineError(f"{file} already exists, and is {kind}: move it away, or give --output another name")
