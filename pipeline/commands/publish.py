"""scripts/publish.sh: the archive becomes a version in Cloud Storage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artefact.version import SIGNATURE, VERSION_FILE, Version
from pipeline.commands.files import SHOWN_ARCHIVES, archive_said, version_files
from pipeline.shared.errors import UntrainedArchive
from pipeline.shared.signals import leave, on_stopping
from pipeline.shared.terminal import err, megabytes, out, spinner, transfer_bar, warn
from pipeline.store.bucket import connect
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.registry import list_versions
from pipeline.store.storage_uri import StorageUri


def publish(
    destination: Annotated[str, typer.Argument(metavar="gs://BUCKET[/PREFIX]", help="Where versions lie.")],
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|gs://…",
            help="A .mar file that scripts/package.sh made, or the models/NAME.yaml of one; or a version that was "
            f"published elsewhere, which stays what it is; without it, {SHOWN_ARCHIVES}.",
        ),
    ] = None,
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
    if archive is not None and archive.startswith("gs://"):
        outcome = promote(prefix, StorageUri.parse(archive), allow_untrained)
    else:
        outcome = send(prefix, archive_said(archive, "--archive FILE"), allow_untrained)
    seconds = f"{time.monotonic() - began:.1f} s"
    if outcome.new or outcome.sent:
        err.print(f"sent {megabytes(outcome.sent)} in {seconds}")
    else:
        err.print(f"was published already ({seconds})")
    out.print(str(outcome.uri))


def send(prefix: StorageUri, archive: Path, allow_untrained: bool) -> Outcome:
    """Raises PipelineError where it should not be published, or Cloud Storage refuses."""
    files = version_files(archive)
    with spinner("reading the archive …"):
        version = Version.of(files)
    if SIGNATURE in files:
        from pipeline.artefact.signature import check_fit  # its library takes 0.9 s

        check_fit(version, files[SIGNATURE])
    return _send(prefix, archive, version, files, allow_untrained)


def promote(prefix: StorageUri, source: StorageUri, allow_untrained: bool) -> Outcome:
    """Publishes once more what was published: the same objects, so the same name, and with them their signature.

    Raises PipelineError where `source` is no complete version, or is not as it was published, too.
    """
    from pipeline.commands.serve import pull  # a server's modules are read with it

    directory = pull(source)
    version = Version.from_json((directory / VERSION_FILE).read_bytes(), f"{source}/{VERSION_FILE}")
    return _send(prefix, source, version, {name: directory / name for name in version.objects}, allow_untrained)


def _send(
    prefix: StorageUri, source: Path | StorageUri, version: Version, files: Mapping[str, Path], allow_untrained: bool
) -> Outcome:
    if not version.trained and not allow_untrained:
        raise UntrainedArchive(source)
    with spinner(f"publishing version {version.name} …"), transfer_bar("sending") as progress:
        client = connect(for_writing=True)
        return publish_version(client, prefix, version, files, progress, warn)


def _list(prefix: StorageUri) -> None:
    with spinner(f"asking for {prefix} …"):
        versions = list_versions(connect(), prefix, warn)
    if not versions:
        warn(f"no versions right beneath {prefix}")
    for published in versions:
        when = published.time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        out.print(f"{when}  {megabytes(published.version.size):>9}  {published.version.origin:10}  {published.uri}")
