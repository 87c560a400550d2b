"""scripts/package.sh: packs weights and the handler into the archive."""

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

MOST_NAMED = 3  # files that are not photographs


class WeightsPrecision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def package(
    model: Annotated[
        Path, typer.Argument(metavar="[MODEL.yaml]", help="The model to pack.", show_default="models/alexnet.yaml")
    ] = MODEL.file,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|untrained|FILE",
            help="Replaces the model file's. FILE is a state dict, or a checkpoint that contains one; "
            "torchvision's names, such as IMAGENET1K_V2, work too.",
            show_default="imagenet, for AlexNet",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Replaces the model file's: text with one label per line, JSON, CSV or TSV."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Replaces the model file's.")] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="PHOTOGRAPHS",
            help="Also pack the network in int8, which is served where it is faster. PHOTOGRAPHS is a folder with at "
            "least 20 pictures of the kind that the network will see: half to calibrate it, half to verify it.",
        ),
    ] = None,
    weights_precision: Annotated[
        WeightsPrecision,
        typer.Option(
            help="How the weights are stored. bfloat16 halves the archive, for servers that compute in bfloat16; "
            "float32 keeps the digits that other servers use."
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
            help="Sign the archive and config.properties. KEY is a private key: a file (ECDSA, PEM), or a key's "
            "version in Cloud KMS, gcpkms://projects/…. With sigstore, your identity signs, without a key.",
        ),
    ] = None,
    trust_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --sign sigstore: of your own Sigstore, instead of the public one."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show what would be packed and what it costs, but write nothing.")
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
        warn(f"This replaced another network called {said.name}: {replaced}.")
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

    Raises PipelineError if the weights are unavailable or do not fit, OSError if nothing can be written.
    """
    _check_output(output)
    said, loaded = load(read_model(MODEL.file, weights=weights))
    return loaded, *_packed(said, loaded, output)


def load(said: Model) -> tuple[Model, Weights]:
    """The model with its weights and classes. Raises PipelineError if they are unavailable or do not fit together."""
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
    """Runs before a network is traced and proved in vain."""
    if output.exists() and not output.is_file():  # a device, say, which a file would replace
        raise PipelineError(f"{output} exists and is not a file: give --output the name of a file")
    there = next(folder for folder in output.absolute().parents if folder.exists())
    if not there.is_dir():
        raise PipelineError(f"{there} is not a folder: give --output a file in one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PipelineError(f"{there} is not writable: give --output a file in another folder")


def _warn(said: Model, loaded: Weights, proof: Proof) -> None:
    if proof.int8 and proof.int8.passed_over:
        some = ", ".join(file.name for file in proof.int8.passed_over[:MOST_NAMED])
        more = len(proof.int8.passed_over) - MOST_NAMED
        warn(f"Skipped in the photographs' folder, not images: {some}{f' and {more} more' if more > 0 else ''}.")
    if loaded.passed_over:
        warn(f"The file has other weights too, which were ignored: {', '.join(loaded.passed_over)}.")
    if not loaded.trained:
        warn("The weights are untrained: this archive's predictions are meaningless.")
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
    """Packs into a temporary folder, so that every error of packing appears here too, and prints the costs."""
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
    out.print(f"size     {found.parameters:,} parameters; the archive would take {megabytes(archive.size)}")
    out.print(f"work     {_figure(found.flop / 1e9)} GFLOP per image (a multiply-add counts as two)")
    out.print(f"memory   about {megabytes(found.memory)} per worker (estimated)")
    out.print(
        f"speed    about {_figure(found.images_per_s)} images/s per core (measured on this machine: "
        "only the network, in float32, one image at a time)"
    )


def _int8_table(proof: Int8Proof) -> Table:
    """How far int8 changed the answers."""
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
    """Three significant digits: 0.0297, 72.4, 8,490."""
    return f"{float(f'{value:.3g}'):,.10g}"
