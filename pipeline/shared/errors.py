"""Errors that stop a command. (Deployment's own errors are in its errors.py, registries' in pipeline/store/oci.)

    PipelineError                 the base: one line that says what is wrong, where, and what to do
    │   shared
    ├── ProxyUnusable             the environment names a proxy that cannot be used
    ├── CertificatesUnusable      a file of certificates that contains none
    ├── PortUnusable              a port is taken, or may not be used
    │   artefact
    ├── NoWeights                 the file of weights does not exist
    ├── WeightsElsewhere          a URL where a file is expected
    ├── NoStateDict               the file holds something else, or something that cannot be loaded safely
    ├── SeveralStateDicts         more than one state dict fits, and no rule decides
    ├── MisfitWeights             a state dict of another network
    ├── NotExportable             a network that cannot be packed as data
    ├── AnswersOtherwise          a packed network that differs from the module
    ├── AnswersOtherwiseInInt8    an int8 network that is too far from the float one
    ├── WeightsUnavailable        published weights are unavailable, for a `reason`
    │   ├── DownloadFailed        the download did not finish
    │   └── DownloadUnderWay      another process is downloading them
    ├── NotOurArchive             a file that scripts/package.sh did not make, or part of one
    ├── NotADescription           a version.json that contradicts itself
    ├── KeyUnusable               a key that does not sign, or does not verify
    ├── NoIdentity                a signature without a key, and nobody as whom to make it
    ├── NotSigned                 Sigstore has not signed
    ├── TrustRootUnusable         a file that does not say whom to trust
    ├── NoSignature               somebody has to have signed, and nothing is
    ├── SignedFileMissing         somebody has to have signed, and one of the two files is not there
    ├── ChangedSinceSigned        a file is not the one that was signed
    ├── NotSignedBy               the signature is none, or by somebody else
    ├── SignatureOfAnother        the signature beside an archive is that of an earlier one
    │   serving
    ├── NoUrl                     not the URL of a server
    ├── BadHeader                 a header that cannot be sent
    ├── CredentialsMissing        a token that is invalid or unavailable
    ├── NoServer                  nothing answers at the URL
    ├── NotClassified             one image has no answer
    │   └── TooManyCalls          because calls came too fast
    ├── NoPictures                a folder, or a prefix, without pictures
    ├── AnotherModel              two servers with different numbers of classes
    ├── NoCommonClass             two servers without a common class
    ├── GaveUp                    a server that has stopped answering
    ├── NothingCompared           the server to compare with answered nothing
    ├── TooLittleAgreement        two servers whose answers differ too much
    ├── NoArchive                 there is nothing to serve or to publish
    ├── SeveralArchives           there is more than one, and none was named
    ├── DamagedArchive            the file is not a zip file
    ├── ServerFailed              TorchServe ended, or its model does not answer
    │   store
    ├── MalformedUri              not a gs:// URI
    ├── NotAVersion               a gs:// URI of something else
    ├── UnfinishedVersion         a folder without its version.json
    ├── StrayObject               an object in a version's folder that is not part of it
    ├── LostObject                an object of a version that is missing
    ├── ChangedObject             an object of a version that has changed since
    ├── ConflictingObject         something else is in a version's place
    ├── NoBucket                  the bucket does not exist
    ├── CredentialsUnusable       Google Cloud credentials that cannot be used or are not accepted
    ├── PermissionMissing         the credentials are fine, but lack a role
    │   commands
    └── UntrainedArchive          an archive whose predictions mean nothing, published by mistake

An error that is raised in one place, and that a name would not explain better, is a plain PipelineError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pipeline.shared.text import one_line, without_secrets


class PipelineError(Exception):
    """Shown to the user as it is, without a traceback; the command ends with exit status 1."""


class Uri(Protocol):
    """The part of a gs:// URI that errors need: StorageUri itself is in a room above this one."""

    @property
    def bucket(self) -> str: ...

    @property
    def parent(self) -> Uri: ...


# --- shared -----------------------------------------------------------------------------------------------------------


class ProxyUnusable(PipelineError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: {reason}")


class CertificatesUnusable(PipelineError):
    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} {why}: give the certificate of the authority, or of the server")


class PortUnusable(PipelineError):
    def __init__(self, port: int, purpose: str, why: str) -> None:
        super().__init__(f"port {port} (for {purpose}) {why}: stop what uses it, or choose another with --port")


# --- artefact ---------------------------------------------------------------------------------------------------------


class NoWeights(PipelineError):
    def __init__(self, file: Path) -> None:
        super().__init__(
            f"no weights at {file}: give --weights the path of a .pth or .safetensors file, or imagenet, or untrained"
        )


class WeightsElsewhere(PipelineError):
    def __init__(self, url: str, download: str | None) -> None:
        how = f" ({download})" if download else ""
        super().__init__(f"{url} is not on this machine: download it first{how}, and give --weights the file")


class NoStateDict(PipelineError):
    def __init__(self, file: Path, what: str, to_do: str = "save one with torch.save(model.state_dict(), …)") -> None:
        super().__init__(f"{file} {what}: {to_do}")


class SeveralStateDicts(PipelineError):
    def __init__(self, file: Path, places: Sequence[str]) -> None:
        super().__init__(
            f"{file} holds more than one state dict that fits ({', '.join(places)}): "
            "save the one you mean with torch.save(…, 'weights.pth')"
        )


class MisfitWeights(PipelineError):
    def __init__(self, file: Path, architecture: str, misfits: Sequence[str]) -> None:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        super().__init__(f"{file} does not fit {architecture}: {sorted(misfits)[0]}{more}")
        self.finite = not any("not finite" in misfit for misfit in misfits)

    def with_advice(self, advice: str) -> PipelineError:
        """The same, with a guess at whose weights they are."""
        return PipelineError(f"{self}: {advice}") if advice else self


class NotExportable(PipelineError):
    """place: FILE:LINE of the network's code, or empty."""

    def __init__(self, reason: str, place: str = "") -> None:
        where = f" ({place})" if place else ""
        super().__init__(f"the network cannot be packed: {reason}{where}")


class AnswersOtherwise(PipelineError):
    """proof: what was measured, on one line."""

    def __init__(self, proof: str) -> None:
        super().__init__(f"the packed network differs from the original, so it is not packed: {proof}")


class InInt8(Protocol):
    """The measurements of an int8 network that its error needs."""

    @property
    def layers(self) -> str: ...

    @property
    def measured(self) -> str: ...

    @property
    def bound(self) -> str: ...


class AnswersOtherwiseInInt8(PipelineError):
    """proofs: one for each attempt; at least one."""

    def __init__(self, proofs: Sequence[InInt8]) -> None:
        tried = "; ".join(f"{proof.layers} in int8: {proof.measured}" for proof in proofs)
        super().__init__(
            f"this network differs too much in int8, so it is not packed: {tried}; the bounds are {proofs[0].bound}: "
            "pack it without --int8, or give --int8 more photographs of the kind that it will see"
        )


class WeightsUnavailable(PipelineError):
    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class DownloadFailed(WeightsUnavailable):
    def __init__(self, url: str, file: Path, reason: str) -> None:
        super().__init__(
            f"the weights could not be downloaded from {url} ({reason}): check the network or HTTPS_PROXY, "
            f"put the file at {file} yourself, or choose --weights FILE or --weights untrained",
            reason,
        )


class DownloadUnderWay(WeightsUnavailable):
    def __init__(self, file: Path) -> None:
        reason = f"another process is downloading {file}"
        super().__init__(f"{reason}: wait for it, then run this again", reason)


class NotOurArchive(PipelineError):
    def __init__(self, archive: Path) -> None:
        super().__init__(f"{archive} is not a model archive made by scripts/package.sh, or is incomplete")


class NotADescription(PipelineError):
    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} does not describe a version, or was changed: delete it, and publish the same archive again"
        )


class KeyUnusable(PipelineError):
    """key: its file, or the name of one elsewhere."""

    def __init__(self, key: object, why: str) -> None:
        super().__init__(f"{key} {why}")


class NoIdentity(PipelineError):
    pass


class NotSigned(PipelineError):
    def __init__(self, why: str) -> None:
        super().__init__(f"Sigstore has not signed ({why}): check the network, or sign with a key")


class TrustRootUnusable(PipelineError):
    def __init__(self, file: Path) -> None:
        super().__init__(
            f"{file} is not a trust root of Sigstore, such as kserve/components/identity/trusted_root.json"
        )


class NoSignature(PipelineError):
    """asked: what is set, for which there has to be one."""

    def __init__(self, signature: Path, asked: str) -> None:
        super().__init__(f"no signature at {signature}, and {asked} is set: sign with scripts/package.sh --sign KEY")


class SignedFileMissing(PipelineError):
    def __init__(self, file: Path, asked: str) -> None:
        super().__init__(f"{file} is missing, and {asked} is set: it is one of the two files that are signed")


class ChangedSinceSigned(PipelineError):
    def __init__(self, file: Path, signature: Path) -> None:
        super().__init__(f"{file} is not what was signed ({signature})")


class NotSignedBy(PipelineError):
    """who: with which key, or as whom."""

    def __init__(self, who: str, signature: Path, why: str = "") -> None:
        super().__init__(f"{signature} is not a signature by {who}{f' ({why})' if why else ''}")


class SignatureOfAnother(PipelineError):
    def __init__(self, name: str, signature: Path) -> None:
        super().__init__(
            f"{signature} is the signature of another {name}: "
            "sign again with scripts/package.sh --sign KEY, or delete it"
        )


# --- serving ----------------------------------------------------------------------------------------------------------


class NoUrl(PipelineError):
    def __init__(self, said: str, why: str | None = None) -> None:
        reason = f" ({why})" if why else ""
        super().__init__(
            f"{without_secrets(said)!r} is not a URL of a server{reason}: expected http://HOST:PORT or https://HOST"
        )


class BadHeader(PipelineError):
    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where} {why}")


class CredentialsMissing(PipelineError):
    pass


class NoServer(PipelineError):
    def __init__(self, address: str, remedy: str, cause: str | None = None) -> None:
        super().__init__(
            f"no answer from {address}: {cause}: {remedy}" if cause else f"no server at {address}: {remedy}"
        )


class NotClassified(PipelineError):
    def __init__(self, image: str, why: str) -> None:
        super().__init__(f"{image}: {why}")


class TooManyCalls(NotClassified):
    """The same request may succeed in a moment."""


class NoPictures(PipelineError):
    def __init__(self, place: object) -> None:
        super().__init__(f"no pictures in {place}: expected .jpg, .png, .webp, .gif, .bmp or .tiff")


class AnotherModel(PipelineError):
    """a, b: how many classes each server answers with."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"A answers with {a} classes and B with {b}: they are not the same kind of model")


class NoCommonClass(PipelineError):
    """a, b: a label of each server."""

    def __init__(self, a: str, b: str) -> None:
        names = f"A: {one_line(a, 60)}, B: {one_line(b, 60)}"
        super().__init__(f"A and B have no class in common ({names}): they are not the same kind of model")


class GaveUp(PipelineError):
    def __init__(self, name: str, pictures: int, why: str) -> None:
        super().__init__(f"{name} has not answered {pictures} pictures in a row: {why}")


class NothingCompared(PipelineError):
    def __init__(self, pictures: int, why: str) -> None:
        super().__init__(f"A answered none of {pictures} pictures, so there is nothing to compare with: {why}")


class TooLittleAgreement(PipelineError):
    pass


class NoArchive(PipelineError):
    """archive: where one was expected: a file, or a folder of them."""

    def __init__(self, archive: Path, option: str | None = None) -> None:
        other = f", or give {option}" if option else ""
        place = "in" if archive.is_dir() else "at"
        super().__init__(f"no archive {place} {archive}: build one with scripts/package.sh{other}")


class SeveralArchives(PipelineError):
    def __init__(self, store: Path, names: Sequence[str]) -> None:
        super().__init__(f"{store} has more than one archive ({one_line(', '.join(names))}): name the one you mean")
        self.names = names


class DamagedArchive(PipelineError):
    def __init__(self, archive: Path) -> None:
        super().__init__(f"{archive} is not an archive, or is incomplete: build it again with scripts/package.sh")


class ServerFailed(PipelineError):
    def __init__(self, what: str, last_words: str) -> None:
        said = f"; its last words:\n{last_words}" if "\n" in last_words else f": {last_words or 'it said nothing'}"
        super().__init__(f"{what}{said}")


# --- store ------------------------------------------------------------------------------------------------------------


class MalformedUri(PipelineError):
    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text!r}: {problem}")


class NotAVersion(PipelineError):
    def __init__(self, uri: Uri, listed: Uri) -> None:
        super().__init__(
            f"{uri} is not a version, which ends in twelve hexadecimal digits: "
            f"scripts/publish.sh --list {listed} shows what there is"
        )


class UnfinishedVersion(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(
            f"{uri} has no version.json: it was not published there, or publishing did not finish; "
            f"scripts/publish.sh --list {uri.parent} shows what was"
        )


class StrayObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is not part of this version: delete it, or KServe will download it")


class LostObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is missing: publish the same archive again to restore it")


class ChangedObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is not what was published: delete it, and publish the same archive again")


class ConflictingObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(
            f"{uri} already exists with other content and is never overwritten: "
            "delete it if nobody needs it, or publish under another prefix"
        )


class NoBucket(PipelineError):
    def __init__(self, uri: Uri) -> None:
        bucket = f"gs://{uri.bucket}"
        super().__init__(
            f"there is no bucket {bucket}: terraform -chdir=terraform/cluster output shows the one that Terraform "
            f"made, gcloud storage buckets create {bucket} makes another"
        )


class CredentialsUnusable(PipelineError):
    def __init__(self, problem: str, file: str | None = None) -> None:
        correct = f"correct or unset GOOGLE_APPLICATION_CREDENTIALS ({file})"
        super().__init__(f"{problem}: {correct if file else 'run gcloud auth application-default login'}")


class PermissionMissing(PipelineError):
    def __init__(self, permission: str, bucket: str, role: str) -> None:
        super().__init__(f"permission {permission} is missing on {bucket}: ask its owner for the role {role}")


# --- commands ---------------------------------------------------------------------------------------------------------


class UntrainedArchive(PipelineError):
    """archive: its file, or the version that contains it."""

    def __init__(self, archive: object) -> None:
        super().__init__(
            f"{archive} has untrained weights, so its predictions are meaningless: "
            "build one with scripts/package.sh --weights …, or add --allow-untrained"
        )


# --- Errors of the operating system -----------------------------------------------------------------------------------


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Makes an OSError from within name this file. Errors while it is written name none, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise


def told(error: OSError) -> str:
    """What is wrong, with the file's name."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
