"""scripts/package.sh: weights and the handler become the archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.artefact.archive import Archive
from pipeline.artefact.model import MODEL
from pipeline.artefact.version import Version
from pipeline.artefact.weights import Weights, load_weights, with_classes
from pipeline.commands.files import (
    BUILT_ARCHIVE,
    SHOWN_ARCHIVE,
    relative,
    signature_beside,
    signed_files,
    version_files,
)
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError
from pipeline.shared.terminal import megabytes, out, spinner, transfer_bar, warn

if TYPE_CHECKING:
    from pipeline.artefact.proof import Proof


def package(
    weights: Annotated[
        str, typer.Option(metavar="imagenet|untrained|FILE", help="FILE is a state dict, or a checkpoint with one.")
    ] = "imagenet",
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the archive goes.", show_default=SHOWN_ARCHIVE)
    ] = BUILT_ARCHIVE,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign it, and config.properties, with this private key: ECDSA, PEM."),
    ] = None,
) -> None:
    """Build the model archive. The same inputs give the same file, byte for byte."""
    signer = None
    if sign is not None:
        from pipeline.artefact.signature import Signer  # its library takes 0.9 s

        signer = Signer(sign)  # before minutes are spent on a key that is none
    loaded, archive, proof = build(weights, output)
    signature = signature_beside(archive.path)
    if signer is not None:
        signer.sign(signed_files(archive.path), signature)
    else:
        signature.unlink(missing_ok=True)  # of the archive before
    if loaded.passed_over:
        warn(f"The file has other weights too, which were not taken: {', '.join(loaded.passed_over)}.")
    if not loaded.trained:
        warn("The weights are untrained: what this archive predicts is meaningless.")
    out.print(f"archive  {relative(archive.path)}")
    out.print(f"version  {Version.of(version_files(archive.path)).name}")
    out.print(f"weights  {loaded.origin}")
    out.print(f"proof    {proof}")
    out.print(f"size     {archive.size} bytes ({megabytes(archive.size)})")
    out.print(f"sha256   {archive.sha256}")
    if signer is not None:
        out.print(f"signed   {relative(signature)}")


def build(weights: str, output: Path) -> tuple[Weights, Archive, Proof]:
    """Raises PipelineError where the weights cannot be had or do not fit, OSError where nothing can be written."""
    if output.exists() and not output.is_file():  # a device, say, in whose place a file would come
        raise PipelineError(f"{output} is there already, and is no file: give --output the name of one")
    with transfer_bar("ImageNet weights") as progress:
        loaded = load_weights(weights, progress)
    from pipeline.artefact.packing import pack  # torch takes seconds

    with spinner("packing …") as say:
        archive, proof = pack(CHECKOUT / "handler", loaded, with_classes(MODEL, loaded), output, say)
    return loaded, archive, proof
