"""scripts/package.sh: weights and the handler become the archive."""

from __future__ import annotations

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.artefact.archive import Archive
from pipeline.artefact.contents import architecture_in, archived_architecture
from pipeline.artefact.model import MODEL, Model, read_model
from pipeline.artefact.version import Version
from pipeline.artefact.weights import Weights, load_weights, with_classes
from pipeline.commands.files import BUILT_ARCHIVE, relative, signature_beside, version_files
from pipeline.commands.signing import check_beside, signing
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError
from pipeline.shared.terminal import megabytes, out, spinner, transfer_bar, warn

if TYPE_CHECKING:  # torch takes seconds
    from pipeline.artefact.int8.proof import Int8Proof
    from pipeline.artefact.proof import Proof

MOST_NAMED = 3  # of the files that are no photographs


class WeightsPrecision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def package(
    model: Annotated[
        Path, typer.Argument(metavar="[MODEL.yaml]", help="What is packed.", show_default="models/alexnet.yaml")
    ] = MODEL.file,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|untrained|FILE",
            help="Instead of the model file's. FILE is a state dict, or a checkpoint with one; "
            "torchvision's names, such as IMAGENET1K_V2, are taken too.",
            show_default="imagenet, for AlexNet",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of the model file's: text with a label a line, JSON, CSV or TSV."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Instead of the model file's.")] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="PHOTOGRAPHS",
            help="Pack the network in int8 too, which is served where it is faster. PHOTOGRAPHS is a folder with at "
            "least 20 pictures of the kind that it will see: half to make it with, half to prove it on.",
        ),
    ] = None,
    weights_precision: Annotated[
        WeightsPrecision,
        typer.Option(
            help="In which the weights are stored. bfloat16 halves the archive, for servers that compute in it; "
            "float32 has the digits that others use."
        ),
    ] = WeightsPrecision.FLOAT32,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the archive goes.", show_default="model-store/NAME.mar of this checkout"
        ),
    ] = None,
    sign: Annotated[
        str | None,
        typer.Option(
            metavar="KEY|sigstore",
            help="Sign it, and config.properties. KEY is a private key: a file (ECDSA, PEM), or a version of a key in "
            "Cloud KMS, gcpkms://projects/…/cryptoKeyVersions/1. With sigstore, who runs this signs, without a key.",
        ),
    ] = None,
    trust_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --sign sigstore: of your own Sigstore, instead of the public one."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would be packed, and what it costs; pack nothing.")
    ] = False,
) -> None:
    """Build the model archive. The same inputs give the same file, byte for byte."""
    said = read_model(model, name, weights, labels)
    output = output or BUILT_ARCHIVE.with_name(f"{said.name}.mar")
    _check_output(output)
    signer = signing(sign, trust_config, output)  # before minutes are spent on a key that is none
    if not check:
        check_beside(output, signer)
    said, loaded = load(said)
    if check:
        _check(said, loaded, int8, weights_precision)
        return
    replaced = architecture_in(output)
    archive, proof = _packed(said, loaded, output, int8, weights_precision)
    if replaced not in (None, archived_architecture(said)):
        warn(f"This took the place of another network called {said.name}: {replaced}.")
    if signer is not None:
        signed = signer.sign(archive.path)
    else:
        signed = []
        signature_beside(archive.path).unlink(missing_ok=True)  # of the archive before: see check_beside
    _warn(said, loaded, proof)
    out.print(f"archive  {relative(archive.path)}")
    out.print(f"version  {Version.of(version_files(archive.path)).name}")
    _tell(said, loaded, proof)
    out.print(f"size     {archive.size} bytes ({megabytes(archive.size)})")
    out.print(f"sha256   {archive.sha256}")
    for line in signed:
        out.print(line)


def build(weights: str, output: Path) -> tuple[Weights, Archive, Proof]:
    """AlexNet's archive. weights: `imagenet`, `untrained` or a file.

    Raises PipelineError where the weights cannot be had or do not fit, OSError where nothing can be written.
    """
    _check_output(output)
    said, loaded = load(read_model(MODEL.file, weights=weights))
    return loaded, *_packed(said, loaded, output)


def load(said: Model) -> tuple[Model, Weights]:
    """The model with its weights and classes. Raises PipelineError where they cannot be had or do not fit together."""
    with spinner("reading the weights …"), transfer_bar("weights") as progress:
        loaded = load_weights(said.weights, progress, said)
        return with_classes(said, loaded), loaded


def _packed(
    said: Model,
    loaded: Weights,
    output: Path,
    int8: Path | None = None,
    weights_precision: WeightsPrecision = WeightsPrecision.FLOAT32,
) -> tuple[Archive, Proof]:
    from pipeline.artefact.packing import pack

    halved = weights_precision is WeightsPrecision.BFLOAT16
    with spinner("packing …") as say:
        return pack(CHECKOUT / "handler", loaded, said, output, say, int8, halved=halved)


def _check_output(output: Path) -> None:
    """Before a network is traced and proved for nothing."""
    if output.exists() and not output.is_file():  # a device, say, in whose place a file would come
        raise PipelineError(f"{output} is there already, and is no file: give --output the name of one")
    there = next(folder for folder in output.absolute().parents if folder.exists())
    if not there.is_dir():
        raise PipelineError(f"{there}: is no folder: give --output a file in one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PipelineError(f"{there}: nothing may be written there: give --output a file in another folder")


def _warn(said: Model, loaded: Weights, proof: Proof) -> None:
    if proof.int8 and proof.int8.passed_over:
        some = ", ".join(file.name for file in proof.int8.passed_over[:MOST_NAMED])
        more = len(proof.int8.passed_over) - MOST_NAMED
        warn(f"Passed over among the photographs, as no images: {some}{f' and {more} more' if more > 0 else ''}.")
    if loaded.passed_over:
        warn(f"The file has other weights too, which were not taken: {', '.join(loaded.passed_over)}.")
    if not loaded.trained:
        warn("The weights are untrained: what this archive predicts is meaningless.")
    for note in said.notes:
        warn(f"{note[0].upper()}{note[1:]}.")


def _tell(said: Model, loaded: Weights, proof: Proof) -> None:
    out.print(f"model    {said.name}: {said.architecture} with {len(said.classes)} classes")
    out.print(f"weights  {loaded.origin}{'' if proof.weights == 'float32' else f', in {proof.weights}'}")
    out.print(f"proof    {proof}")
    if proof.int8:
        out.print(f"int8     {proof.int8}")
        out.print(_int8_table(proof.int8))


def _check(said: Model, loaded: Weights, int8: Path | None, weights_precision: WeightsPrecision) -> None:
    """Packs it where it is thrown away, so that this ends as packing would, and says what it costs."""
    from pipeline.artefact.costs import costs
    from pipeline.artefact.weights import network

    with tempfile.TemporaryDirectory() as scratch:
        archive, proof = _packed(said, loaded, Path(scratch) / f"{said.name}.mar", int8, weights_precision)
    with spinner("measuring …"):
        found = costs(network(said, loaded), said.preprocessing.crop)
    _warn(said, loaded, proof)
    _tell(said, loaded, proof)
    images = said.preprocessing
    out.print(f"classes  from {said.classes[0][1]} to {said.classes[-1][1]} ({said.labels})")
    out.print(f"images   {images.crop} × {images.crop} from the middle of {images.resize}, {images.interpolation}")
    out.print(f"size     {found.parameters:,} parameters; the archive would have {megabytes(archive.size)}")
    out.print(f"work     {_figure(found.flop / 1e9)} GFLOP an image (a multiply-add counts as two)")
    out.print(f"memory   about {megabytes(found.memory)} a worker (estimated)")
    out.print(
        f"speed    about {_figure(found.images_per_s)} images/s a core (measured on this machine: "
        "the network alone, in float32, one image at a time)"
    )


def _int8_table(proof: Int8Proof) -> Table:
    """What int8 moved."""
    table = Table("int8 against float32", "same first class", "moved on average", "at most")
    found = {
        "evaluated exactly": proof.exact,
        "as this machine serves it": proof.served,
        "pictures turned": proof.turned,
    }
    for words, each in found.items():
        table.add_row(words, f"{each.same:.2%}", f"{each.on_average:.5f}", f"{each.moved:.4f}")
    table.add_section()
    table.add_row("the bounds", f"≥ {proof.bounds.same:.2%}", f"≤ {proof.bounds.on_average:.5f}", "")
    return table


def _figure(value: float) -> str:
    """Three digits of it: 0.0297, 72.4, 8,490."""
    return f"{float(f'{value:.3g}'):,.10g}"
