"""The files of this checkout that commands use, and how commands name them."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artefact.archive import model_name
from pipeline.artefact.model import read_model
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, STORE, archive_of
from pipeline.serving.folder import check_files, only_archive
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import NoArchive, PipelineError, SeveralArchives

BUILT_ARCHIVE = CHECKOUT / ARCHIVE  # of AlexNet, the default model
SHOWN_ARCHIVES = f"the one in {STORE}/ of this checkout"
CHECKOUT_CONFIG = CHECKOUT / "config.properties"
PHOTOGRAPH = CHECKOUT / "docs" / "photographs" / "grace_hopper.jpg"
OF_MODELS = (".yaml", ".yml")


def built_archive(model: str) -> Path:
    """Where scripts/package.sh puts the archive of the model of this name."""
    return CHECKOUT / archive_of(model)


def archive_said(said: str | None, option: str) -> Path:
    """The archive that the user means: a .mar file, the archive of a models/NAME.yaml, or by default the only one.

    option: how to name one to this command, for messages. Raises PipelineError if there is none, or several.
    """
    if said is None:
        try:
            return only_archive(CHECKOUT / STORE)
        except NoArchive:
            raise NoArchive(CHECKOUT / STORE, option) from None
        except SeveralArchives as several:
            example = relative(CHECKOUT / STORE / several.names[0])
            raise PipelineError(f"{several}, as with {option.replace('FILE', example)}") from None
    archive = Path(said)
    if archive.suffix in OF_MODELS:
        archive = built_archive(read_model(archive).name)
    if not archive.is_file():
        raise NoArchive(archive, option)
    return archive


def signed_files(archive: Path) -> dict[str, Path]:
    """The files of a version without its signature: object names → the archive, and this checkout's config.

    Raises NotOurArchive, or OSError if the archive cannot be read.
    """
    return {CONFIG: CHECKOUT_CONFIG, archive_of(model_name(archive)): archive}


def version_files(archive: Path) -> dict[str, Path]:
    """The files of a version, with the signature next to the archive, if there is one. Raises the same."""
    signature = signature_beside(archive)
    return signed_files(archive) | ({SIGNATURE: signature} if signature.exists() else {})


def signature_beside(archive: Path) -> Path:
    """Where an archive's signature is on an engineer's machine; in a version it is SIGNATURE."""
    return archive.with_name(archive.name + ".sig")


def laid_out(archive: Path, folder: Path) -> Path:
    """Fills an empty folder in KServe's layout: this archive, and this checkout's settings.

    Raises PipelineError if they could not be served.
    """
    check_files(CHECKOUT_CONFIG, archive)  # by the names that the user knows, not those in the folder made here
    for name, file in signed_files(archive).items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).symlink_to(file.absolute())
    return folder


def relative(path: Path) -> str:
    """The shortest path that is right in the user's working directory."""
    return min(os.path.relpath(path), str(path), key=len)
