"""What stops a command. (Deployment's own errors are in pipeline/deployment/errors.py.)

    PipelineError                 the base: one line that says what is wrong, where, and what to do
    │   shared
    ├── ProxyUnusable             the environment names a proxy that cannot be used
    ├── CertificatesUnusable      a file of certificates that has none
    ├── PortUnusable              a port is taken, or not ours to take
    │   artefact
    ├── NoWeights                 there is no such file of weights
    ├── WeightsElsewhere          a URL where a file is expected
    ├── NoStateDict               the file has something else in it, or what cannot be loaded safely
    ├── SeveralStateDicts         it has more than one that fits, and no rule says which
    ├── MisfitWeights             a state dict of another network
    ├── NotExportable             a network that cannot be packed as data
    ├── AnswersOtherwise          a packed network that is not what the module was
    ├── AnswersOtherwiseInInt8    an int8 network that is too far from the float one
    ├── WeightsUnavailable        published weights cannot be had, for a `reason`
    │   ├── DownloadFailed        the download did not come to its end
    │   └── DownloadUnderWay      another process is at it
    ├── NotOurArchive             a file that scripts/package.sh did not make, or half of one
    ├── NotADescription           a version.json that does not agree with itself
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
    ├── NoUrl                     what cannot be the URL of a server
    ├── BadHeader                 a header that cannot be sent
    ├── CredentialsMissing        a token that is none, or cannot be had
    ├── NoServer                  nothing answers at the URL
    ├── NotClassified             one image has no answer
    │   └── TooManyCalls          so soon
    ├── NoPictures                a folder, or a prefix, in which there are none
    ├── AnotherModel              two servers that have not as many classes
    ├── NoCommonClass             two servers of which neither has a class of the other
    ├── GaveUp                    a server that has stopped answering
    ├── NothingCompared           the server to compare with has answered nothing
    ├── TooLittleAgreement        two servers that answer too differently
    ├── NoArchive                 there is nothing to serve or to publish
    ├── SeveralArchives           there is more than one, and nobody says which
    ├── DamagedArchive            what is there is no zip file
    ├── ServerFailed              TorchServe ended, or its model does not answer
    │   store
    ├── MalformedUri              what cannot be a gs:// URI
    ├── NotAVersion               a gs:// URI of something else
    ├── UnfinishedVersion         a folder without its version.json
    ├── StrayObject               an object in a version's folder that is not part of it
    ├── LostObject                an object of a version that is gone
    ├── ChangedObject             an object of a version that is another by now
    ├── ConflictingObject         something else is where a version is to be published
    ├── NoBucket                  there is no such bucket
    ├── CredentialsUnusable       Google Cloud credentials that cannot be used or are not accepted
    ├── PermissionMissing         the credentials are fine, their role is not
    │   commands
    └── UntrainedArchive          an archive that predicts nothing, which nobody asked to publish

A sentence that is said once, and has no name that would say it better, is a PipelineError as it is.
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
    """A gs:// URI, as far as errors need it: StorageUri has its room above this one."""

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
        """The same, and whose weights they may be."""
        return PipelineError(f"{self}: {advice}") if advice else self


class NotExportable(PipelineError):
    """place: FILE:LINE of the network's code, or nothing."""

    def __init__(self, reason: str, place: str = "") -> None:
        where = f" ({place})" if place else ""
        super().__init__(f"the network cannot be packed: {reason}{where}")


class AnswersOtherwise(PipelineError):
    """proof: what was measured, in a line."""

    def __init__(self, proof: str) -> None:
        super().__init__(f"the packed network answers otherwise than the original, so it is not packed: {proof}")


class InInt8(Protocol):
    """What was measured of an int8 network, as far as its error needs it."""

    @property
    def layers(self) -> str: ...

    @property
    def measured(self) -> str: ...

    @property
    def bound(self) -> str: ...


class AnswersOtherwiseInInt8(PipelineError):
    """proofs: of each attempt, at least one."""

    def __init__(self, proofs: Sequence[InInt8]) -> None:
        tried = "; ".join(f"{proof.layers} in int8: {proof.measured}" for proof in proofs)
        super().__init__(
            f"this network answers otherwise in int8, so it is not packed: {tried}; the bounds are {proofs[0].bound}: "
            "pack it without --int8, or give it more photographs of the kind that it will see"
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
        super().__init__(f"{archive} is not a model archive made by scripts/package.sh, or only half of one")


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
    """It may be asked again in a moment."""


class NoPictures(PipelineError):
    def __init__(self, place: object) -> None:
        super().__init__(f"no pictures in {place}: expected .jpg, .png, .webp, .gif, .bmp or .tiff")


class AnotherModel(PipelineError):
    """How many classes the first and the second server answer with."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"A answers with {a} classes and B with {b}: they are not the same kind of model")


class NoCommonClass(PipelineError):
    """A label of the first server, and one of the second."""

    def __init__(self, a: str, b: str) -> None:
        names = f"A: {one_line(a, 60)}, B: {one_line(b, 60)}"
        super().__init__(f"A and B have no class in common ({names}): they are not the same kind of model")


class GaveUp(PipelineError):
    def __init__(self, name: str, pictures: int, why: str) -> None:
        super().__init__(f"{name} has not answered {pictures} pictures in a row: {why}")


class NothingCompared(PipelineError):
    def __init__(self, pictures: int, why: str) -> None:
        super().__init__(f"A has answered none of {pictures} pictures, so there is nothing to compare with: {why}")


class TooLittleAgreement(PipelineError):
    pass


class NoArchive(PipelineError):
    """archive: where it should be: a file, or a folder with one."""

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
        super().__init__(f"{archive} is no archive, or half of one: build it again with scripts/package.sh")


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
            f"{uri} is not a version, whose last part would be twelve hexadecimal digits: "
            f"scripts/publish.sh --list {listed} shows what there is"
        )


class UnfinishedVersion(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(
            f"{uri} has no version.json: it was not published there, or not to its end; "
            f"scripts/publish.sh --list {uri.parent} shows what was"
        )


class StrayObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is not part of this version: delete it, KServe would download it")


class LostObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is missing: publish the same archive again to have it back")


class ChangedObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(f"{uri} is not what was published: delete it, and publish the same archive again")


class ConflictingObject(PipelineError):
    def __init__(self, uri: Uri) -> None:
        super().__init__(
            f"{uri} is there already with other content, and is never overwritten: "
            "delete it if it is of no use, or publish under another prefix"
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
    """archive: its file, or the version that has it."""

    def __init__(self, archive: object) -> None:
        super().__init__(
            f"{archive} has untrained weights, what it predicts is meaningless: "
            "build one with scripts/package.sh --weights …, or add --allow-untrained"
        )


# --- Errors of the operating system -----------------------------------------------------------------------------------


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """An OSError from within names this file: while one is written, errors name none, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise


def told(error: OSError) -> str:
    """What is wrong, and with which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
