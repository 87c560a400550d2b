"""The files of this checkout that commands take, and how commands name them."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artefact.archive import model_name
from pipeline.artefact.model import read_model
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, STORE, archive_of
from pipeline.serving.folder import check_files, only_archive
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import NoArchive, PipelineError, SeveralArchives

BUILT_ARCHIVE = CHECKOUT / ARCHIVE  # of AlexNet, which is packed where nobody names another model
SHOWN_ARCHIVES = f"the one in {STORE}/ of this checkout"
CHECKOUT_CONFIG = CHECKOUT / "config.properties"
PHOTOGRAPH = CHECKOUT / "docs" / "photographs" / "grace_hopper.jpg"
OF_MODELS = (".yaml", ".yml")


def built_archive(model: str) -> Path:
    """Where scripts/package.sh puts the archive of the model of this name."""
    return CHECKOUT / archive_of(model)


def archive_said(said: str | None, option: str) -> Path:
    """The archive that the user means: a .mar file, that of a models/NAME.yaml, or without a word the only one there.

    option: how one is named to this command, for sentences. Raises PipelineError where there is none, or several.
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
    """What a version is made of, but for its signature: object names → the archive, and this checkout's config.

    Raises NotOurArchive, or OSError where it cannot be read.
    """
    return {CONFIG: CHECKOUT_CONFIG, archive_of(model_name(archive)): archive}


def version_files(archive: Path) -> dict[str, Path]:
    """What a version is made of, with the signature that lies beside the archive, if any does. Raises the same."""
    signature = signature_beside(archive)
    return signed_files(archive) | ({SIGNATURE: signature} if signature.exists() else {})


def signature_beside(archive: Path) -> Path:
    """Where the signature of an archive lies on an engineer's machine; in a version it is SIGNATURE."""
    return archive.with_name(archive.name + ".sig")


def laid_out(archive: Path, folder: Path) -> Path:
    """Makes of an empty folder one in KServe's layout that shows this archive alone, and this checkout's settings.

    Raises PipelineError where that could not be served.
    """
    check_files(CHECKOUT_CONFIG, archive)  # which the user knows, and not the folder made here
    for name, file in signed_files(archive).items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).symlink_to(file.absolute())
    return folder


def relative(path: Path) -> str:
    """As short as it can be and still be right from where the user is."""
    return min(os.path.relpath(path), str(path), key=len)
