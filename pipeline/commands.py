"""What scripts/ and `make demo` run; every function here is one command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from pipeline.archive import Archive, build_archive
from pipeline.client import Client, show
from pipeline.errors import PipelineError, WeightsUnavailable
from pipeline.ports import Ports
from pipeline.signals import NotedSignals, Terminated, leave, on_stopping
from pipeline.terminal import download_bar, err, megabytes, out
from pipeline.torchserve import TorchServe
from pipeline.weights import Weights, load_weights

CHECKOUT = Path(__file__).resolve().parent.parent
ARCHIVE = CHECKOUT / "model-store" / "alexnet.mar"
PHOTOGRAPH = CHECKOUT / "tests" / "photographs" / "grace_hopper.jpg"


def package(
    weights: Annotated[
        str, typer.Option(metavar="imagenet|untrained|FILE", help="FILE is a state dict, .pth or .safetensors.")
    ] = "imagenet",
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the archive goes.")] = ARCHIVE,
) -> None:
    """Build the model archive. The same inputs give the same file, byte for byte."""
    loaded, archive = _package(weights, output)
    if not loaded.trained:
        err.print("The weights are untrained: what this archive predicts is meaningless.", style="yellow")
    out.print(f"archive  {_relative(archive.path)}")
    out.print(f"version  {archive.version}")
    out.print(f"weights  {loaded.origin}")
    out.print(f"size     {archive.size} bytes ({megabytes(archive.size)})")
    out.print(f"sha256   {archive.sha256}")


def serve(
    source: Annotated[
        Path | None, typer.Argument(help="A directory with config/ and model-store/; without it, this checkout.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65533, help="For inference; management and metrics take the next two.")
    ] = 8080,
) -> None:
    """Serve on loopback until interrupted."""
    began = time.monotonic()
    with ExitStack() as stack:
        obey = stack.enter_context(NotedSignals()).obey
        with err.status("TorchServe is starting …"):
            directory = stack.enter_context(_directory_to_serve(source))
            server = stack.enter_context(TorchServe(directory, Ports.starting_at(port), log=err.print, obey=obey))
        out.print(f"ready after {time.monotonic() - began:.1f} s: {server.predict_url} (Ctrl-C stops)")
        photograph = shlex.quote(_relative(PHOTOGRAPH))
        out.print(
            f"curl --noproxy '*' -sS -H 'Content-Type: image/jpeg' --data-binary @{photograph} {server.predict_url}"
        )
        with suppress(Terminated):
            server.wait()
        err.print("TorchServe is stopping …")


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files, or https URLs.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8080",
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="How many classes to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each image.")] = False,
) -> None:
    """Classify images: one KServe v1 call for each."""
    on_stopping(leave)
    failed = False
    with Client(url) as client:
        quiet = out.is_terminal or not err.is_terminal  # in a terminal the answers themselves show how far it is
        answers = client.predict_all(images, top_k)
        watched = track(answers, "classifying", len(images), console=err, transient=True, disable=quiet)
        for number, (image, answer) in enumerate(zip(images, watched, strict=True), start=1):
            if isinstance(answer, PipelineError):
                failed = True
                err.print(f"error: {answer}", style="red")
            elif as_json:
                out.print(json.dumps({"image": image, "classes": answer}))
            else:
                show(f"{image} ({number} of {len(images)})" if len(images) > 1 else image, answer, out)
    if failed:
        raise typer.Exit(1)


def demo() -> None:
    """The whole path on this machine: package, serve, predict, stop. Leaves nothing behind but cached weights."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-demo-")))
        (directory / "config").mkdir()
        shutil.copy(CHECKOUT / "config.properties", directory / "config")
        with _step("package") as done:
            try:
                loaded, archive = _package("imagenet", directory / "model-store" / ARCHIVE.name)
            except WeightsUnavailable as error:
                err.print(
                    f"The ImageNet weights cannot be downloaded ({error.reason}): "
                    "going on with untrained ones, so the predictions below are meaningless.",
                    style="yellow",
                )
                loaded, archive = _package("untrained", directory / "model-store" / ARCHIVE.name)
            done(f"{archive.path.name}, {megabytes(archive.size)}, version {archive.version}, weights {loaded.origin}")
        with _step("serve") as done:
            obey = stack.enter_context(NotedSignals()).obey
            server = stack.enter_context(TorchServe(directory, Ports.any_free(), log=err.print, obey=obey))
            done(server.predict_url)
        with _step("predict") as done:
            with Client(server.url) as client:
                classes = client.predict(str(PHOTOGRAPH), top_k=5)
            done(_relative(PHOTOGRAPH))
        obey()
        show(PHOTOGRAPH.name if loaded.trained else f"{PHOTOGRAPH.name} (untrained weights: meaningless)", classes, out)
        with _step("stop") as done:
            stack.close()
            done("no process and no file left")


def _package(weights: str, output: Path) -> tuple[Weights, Archive]:
    with download_bar("ImageNet weights") as progress:
        loaded = load_weights(weights, progress)
    return loaded, build_archive(CHECKOUT / "handler", loaded, output)


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """One step of the demo: a spinner while it runs, then a line with its outcome and its time."""
    began, outcome = time.monotonic(), [""]

    def done(what: str) -> None:
        outcome[0] = what

    with err.status(f"{name} …"):
        yield done
    out.print(f"✓ {name:8} {outcome[0]} ({time.monotonic() - began:.1f} s)")


@contextmanager
def _directory_to_serve(source: Path | None) -> Iterator[Path]:
    """The source; or, for this checkout, a directory in KServe's layout that shows the checkout's own files."""
    if source is not None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="alexnet-") as made:
        (Path(made) / "config").mkdir()
        (Path(made) / "config" / "config.properties").symlink_to(CHECKOUT / "config.properties")
        (Path(made) / "model-store").symlink_to(ARCHIVE.parent)
        yield Path(made)


def _relative(path: Path) -> str:
    """As short as it can be and still be right from where the user is."""
    return min(os.path.relpath(path), str(path), key=len)
