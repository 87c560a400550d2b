"""What scripts/ and `make demo` run; every function here is one command."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from pipeline.artefact.archive import Archive, build_archive
from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.version import ARCHIVE as ARCHIVE_OBJECT
from pipeline.artefact.version import CONFIG, SIGNATURE, Version
from pipeline.artefact.weights import Weights, load_weights
from pipeline.serving.client import Client, show
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError, WeightsUnavailable
from pipeline.shared.ports import Ports
from pipeline.shared.signals import NotedSignals, Terminated, leave, on_stopping
from pipeline.shared.terminal import err, megabytes, out, transfer_bar
from pipeline.store.embedded_storage import EmbeddedStorage
from pipeline.store.storage_uri import StorageUri

if TYPE_CHECKING:
    from pipeline.artefact.signature import Signer
    from pipeline.store.publish import Outcome

ARCHIVE = CHECKOUT / "model-store" / "alexnet.mar"
PHOTOGRAPH = CHECKOUT / "docs" / "photographs" / "grace_hopper.jpg"
PUBLIC_KEY = "ALEXNET_PUBLIC_KEY"  # the same variable as in the serving image


def package(
    weights: Annotated[
        str, typer.Option(metavar="imagenet|untrained|FILE", help="FILE is a state dict, .pth or .safetensors.")
    ] = "imagenet",
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the archive goes.")] = ARCHIVE,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign it, and config.properties, with this private key: ECDSA, PEM."),
    ] = None,
) -> None:
    """Build the model archive. The same inputs give the same file, byte for byte."""
    signer = _signer(sign) if sign is not None else None  # before minutes are spent on a key that is none
    loaded, archive = _package(weights, output)
    signature = signature_beside(archive.path)
    if signer is not None:
        signer.sign({CONFIG: CHECKOUT / "config.properties", ARCHIVE_OBJECT: archive.path}, signature)
    else:
        signature.unlink(missing_ok=True)  # of the archive before
    if not loaded.trained:
        err.print("The weights are untrained: what this archive predicts is meaningless.", style="yellow")
    out.print(f"archive  {_relative(archive.path)}")
    out.print(f"version  {archive.version}")
    out.print(f"weights  {loaded.origin}")
    out.print(f"size     {archive.size} bytes ({megabytes(archive.size)})")
    out.print(f"sha256   {archive.sha256}")
    if signer is not None:
        out.print(f"signed   {_relative(signature)}")


def publish(
    destination: Annotated[str, typer.Argument(metavar="gs://BUCKET[/PREFIX]", help="Where versions lie.")],
    archive: Annotated[
        Path, typer.Option(metavar="FILE", help="The archive, as scripts/package.sh made it.")
    ] = ARCHIVE,
    show_versions: Annotated[bool, typer.Option("--list", help="Show the versions there; publish nothing.")] = False,
    allow_untrained: Annotated[bool, typer.Option("--allow-untrained", help="Even what predicts nothing.")] = False,
) -> None:
    """Publish the archive as an immutable version in Cloud Storage. Prints its storageUri."""
    on_stopping(leave)  # whatever has been sent is found again, and nobody sees it before it is complete
    prefix = StorageUri.parse(destination)
    if show_versions:
        _list(prefix)
        return
    began = time.monotonic()
    outcome = _publish(prefix, archive, allow_untrained)
    seconds = f"{time.monotonic() - began:.1f} s"
    if outcome.new or outcome.sent:
        err.print(f"sent {megabytes(outcome.sent)} in {seconds}")
    else:
        err.print(f"was published already ({seconds})")
    out.print(str(outcome.uri))


def serve(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[gs://BUCKET/…|DIRECTORY]",
            help="A storageUri, or a directory with config/ and model-store/; without it, this checkout.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65533, help="For inference; management and metrics take the next two.")
    ] = 8080,
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar=PUBLIC_KEY, help="Serve only what this key, in PEM, has signed."),
    ] = None,
) -> None:
    """Serve on loopback until interrupted."""
    began = time.monotonic()
    if public_key is None and PUBLIC_KEY in os.environ:  # typer takes an empty variable for none
        raise PipelineError(f"{PUBLIC_KEY} is set, but empty: name the file with the public key, or unset it")
    if source is not None and ":" in source.partition("/")[0]:
        source = str(_pull(StorageUri.parse(source)))
    if public_key is not None:
        _verify(source, public_key)
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


def deploy(
    storage_uri: Annotated[
        str | None, typer.Option(metavar="gs://…", help="The version, as scripts/publish.sh printed it.")
    ] = None,
    overlay: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of kserve/overlays; without it, standard.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Without it, that of the kube context.")] = None,
    image: Annotated[str | None, typer.Option(help="The serving image; without it, that of the overlay.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to the version before.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what was applied, and nothing else.")] = False,
    no_rollback: Annotated[bool, typer.Option("--no-rollback", help="Leave a version that fails.")] = False,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long a version may take.")] = 600,
) -> None:
    """Deploy a version on KServe, and prove that it answers. Prints the service's URL."""
    if [storage_uri is not None, rollback, delete].count(True) != 1:
        raise typer.BadParameter("give one of --storage-uri, --rollback and --delete")
    if storage_uri is None and (image is not None or no_rollback):
        raise typer.BadParameter("--image and --no-rollback go with --storage-uri")
    if rollback and overlay is not None:
        raise typer.BadParameter("--overlay does not go with --rollback, which keeps to what was applied")
    from pipeline.deployment.cluster import Cluster  # the kubernetes package takes 0.4 s
    from pipeline.deployment.deploy import Deployment
    from pipeline.deployment.manifests import STANDARD
    from pipeline.deployment.pace import Pace
    from pipeline.deployment.voice import Voice

    with ExitStack() as stack:
        cluster = stack.enter_context(closing(Cluster(namespace)))
        voice = Voice(
            err.print, partial(err.print, style="yellow"), stack.enter_context(_changes("asking the cluster"))
        )
        deployment = Deployment(cluster, CHECKOUT / "kserve" / "overlays", voice, Pace(timeout))
        if storage_uri is not None:
            url = deployment.deploy(storage_uri, overlay or STANDARD, image, rollback=not no_rollback)
        elif rollback:
            url = deployment.roll_back()
        else:
            deployment.delete(overlay)
            return
    out.print(url)


def demo() -> None:
    """The whole path on this machine, from weights to predictions. Leaves nothing behind but cached weights."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-demo-")))
        with _step("package") as done:
            try:
                loaded, archive = _package("imagenet", scratch / ARCHIVE.name)
            except WeightsUnavailable as error:
                err.print(
                    f"The ImageNet weights cannot be downloaded ({error.reason}): "
                    "going on with untrained ones, so the predictions below are meaningless.",
                    style="yellow",
                )
                loaded, archive = _package("untrained", scratch / ARCHIVE.name)
            done(f"{archive.path.name}, {megabytes(archive.size)}, version {archive.version}, weights {loaded.origin}")
        with EmbeddedStorage("demo") as storage:
            with _step("publish") as done:
                uri = _publish(StorageUri(storage.bucket, MODEL_NAME), archive.path, allow_untrained=True).uri
                done(f"{uri}, in an embedded Cloud Storage")
            with _step("pull") as done:
                directory = _pull(uri, scratch)
                done("downloaded by KServe's storage initializer, and checked")
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
    with transfer_bar("ImageNet weights") as progress:
        loaded = load_weights(weights, progress)
    return loaded, build_archive(CHECKOUT / "handler", loaded, output)


def _publish(prefix: StorageUri, archive: Path, allow_untrained: bool) -> Outcome:
    if not archive.is_file():
        raise PipelineError(f"no archive at {archive}: build one with scripts/package.sh, or give --archive")
    files = {CONFIG: CHECKOUT / "config.properties", ARCHIVE_OBJECT: archive}
    signature = signature_beside(archive)
    if signature.exists():
        files[SIGNATURE] = signature
    with err.status("reading the archive …"):
        version = Version.of(files)
    if SIGNATURE in files:
        from pipeline.artefact.signature import check_fit  # its library takes 0.9 s

        check_fit(version, signature)
    if not version.trained and not allow_untrained:
        raise PipelineError(
            f"{archive} has untrained weights, what it predicts is meaningless: "
            "build one with scripts/package.sh --weights …, or add --allow-untrained"
        )
    from pipeline.store.bucket import connect
    from pipeline.store.publish import publish_version  # Google's libraries take 0.2 s, which predict can do without

    with err.status(f"publishing version {version.name} …"), transfer_bar("sending") as progress:
        client = connect(for_writing=True)
        return publish_version(client, prefix, version, files, progress, warn=partial(err.print, style="yellow"))


def _signer(key: Path) -> Signer:
    from pipeline.artefact.signature import Signer

    return Signer(key)


def _verify(source: str | None, public_key: Path) -> None:
    """Raises PipelineError unless what will be served is signed: the source as `_directory_to_serve` takes it."""
    from pipeline.artefact.signature import verify

    if source is None:
        files, signature = {CONFIG: CHECKOUT / "config.properties", ARCHIVE_OBJECT: ARCHIVE}, signature_beside(ARCHIVE)
    else:
        files, signature = {name: Path(source, name) for name in (CONFIG, ARCHIVE_OBJECT)}, Path(source, SIGNATURE)
    with err.status("checking the signature …"):
        verify(files, signature, public_key)


def _pull(uri: StorageUri, cache: Path | None = None) -> Path:
    from pipeline.store.pull import cache_directory, pull_version

    with err.status(f"looking for {uri} …"), transfer_bar("downloading") as progress:
        return pull_version(uri, cache or cache_directory(), progress, note=partial(err.print, style="yellow"))


def _list(prefix: StorageUri) -> None:
    from pipeline.store.bucket import connect, list_versions

    with err.status(f"asking for {prefix} …"):
        versions = list_versions(connect(), prefix, warn=partial(err.print, style="yellow"))
    if not versions:
        err.print(f"no versions right beneath {prefix}", style="yellow")
    for published in versions:
        when = published.time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        out.print(f"{when}  {megabytes(published.version.size):>9}  {published.version.origin:10}  {published.uri}")


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
def _changes(first: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being waited for: beside a spinner, or where there is no terminal, as a line for each change."""
    last = first
    with err.status(first) as status:

        def show_if_new(line: str) -> None:
            nonlocal last
            if line != last:
                last = line
                status.update(line)
                if not err.is_terminal:
                    err.print(f"waiting      {line}")

        yield show_if_new


@contextmanager
def _directory_to_serve(source: str | None) -> Iterator[Path]:
    """The source; or, for this checkout, a directory in KServe's layout that shows the checkout's own files."""
    if source is not None:
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="alexnet-") as made:
        (Path(made) / "config").mkdir()
        (Path(made) / "config" / "config.properties").symlink_to(CHECKOUT / "config.properties")
        (Path(made) / "model-store").symlink_to(ARCHIVE.parent)
        yield Path(made)


def signature_beside(archive: Path) -> Path:
    """Where the signature of an archive lies on an engineer's machine; in a version it is SIGNATURE."""
    return archive.with_name(archive.name + ".sig")


def _relative(path: Path) -> str:
    """As short as it can be and still be right from where the user is."""
    return min(os.path.relpath(path), str(path), key=len)
