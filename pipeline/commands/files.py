"""The files of this checkout that commands take, and how commands name them."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE
from pipeline.shared.checkout import CHECKOUT

BUILT_ARCHIVE = CHECKOUT / ARCHIVE
SHOWN_ARCHIVE = f"{ARCHIVE} of this checkout"  # by --help
PHOTOGRAPH = CHECKOUT / "docs" / "photographs" / "grace_hopper.jpg"


def signed_files(archive: Path) -> dict[str, Path]:
    """What a version is made of, but for its signature: object names → the archive, and this checkout's config."""
    return {CONFIG: CHECKOUT / "config.properties", ARCHIVE: archive}


def version_files(archive: Path) -> dict[str, Path]:
    """What a version is made of, with the signature that lies beside the archive, if any does."""
    signature = signature_beside(archive)
    return signed_files(archive) | ({SIGNATURE: signature} if signature.exists() else {})


def signature_beside(archive: Path) -> Path:
    """Where the signature of an archive lies on an engineer's machine; in a version it is SIGNATURE."""
    return archive.with_name(archive.name + ".sig")


def relative(path: Path) -> str:
    """As short as it can be and still be right from where the user is."""
    return min(os.path.relpath(path), str(path), key=len)
