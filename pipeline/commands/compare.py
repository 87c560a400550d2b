"""scripts/compare.sh: what changes from one archive, version or server to another."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from pipeline.commands.contenders import answering, contender
from pipeline.serving import credentials
from pipeline.serving.comparing import ask_both, warm_up
from pipeline.serving.comparison import FEW, Comparison, fewness
from pipeline.serving.comparison_table import tables
from pipeline.serving.picture_files import picture_files, read
from pipeline.shared.errors import TooLittleAgreement
from pipeline.shared.terminal import err, out, spinner, warn


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A .mar file, a version gs://… or oci://…, a directory that serve.sh accepts, or a server's URL.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The same: what may replace A.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help=f"Image files or folders of them; at least {FEW} images.")
    ],
    require_agreement: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Exit with 1 unless this share of the pictures gets the same first class. Without it, A and B must be "
            "equal.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with a result for each picture.")
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: VALUE'|@FILE",
            help="A header for A and B if they are URLs; may be repeated. @FILE holds one per line.",
        ),
    ] = None,
) -> None:
    """Send the same pictures to two servers in turn: agreement, changes of probability, latency, errors.

    Archives and versions are served on this machine, with one worker each, and stopped afterwards.
    """
    files = picture_files(images)
    headers = credentials.headers(header or [])
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-")))
        one, other = contender(a, scratch / "a"), contender(b, scratch / "b")
        with spinner("reading both …"):
            if one.identity == other.identity:
                warn("A and B are the same: any difference is chance")
        if few := fewness(len(files)):
            warn(few)
        ask_a, ask_b = (stack.enter_context(answering(*it, headers)) for it in (("A", one), ("B", other)))
        with spinner("warming up …"):
            (first,) = islice(read(files), 1)
            classes = min(warm_up(ask, first) for ask in (ask_a, ask_b))
        outcomes = ask_both(ask_a, ask_b, read(files), classes)
        shown = track(outcomes, "comparing", len(files), console=err, transient=True, disable=not err.is_terminal)
        comparison = Comparison(list(shown))
    if as_json:
        out.print(json.dumps({"classes": classes} | comparison.to_json()))
    else:
        for table in tables(comparison, f"A: {one.title}", f"B: {other.title}"):
            out.print(table, soft_wrap=False)
    if comparison.left_out:
        warn(comparison.left_out)
    if shortfall := comparison.shortfall(require_agreement):
        raise TooLittleAgreement(shortfall)
