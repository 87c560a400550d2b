"""scripts/publish.sh: the archive becomes a version in Cloud Storage, or in a registry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artefact.version import SIGNATURE, VERSION_FILE, Version
from pipeline.commands.files import SHOWN_ARCHIVES, archive_said, version_files
from pipeline.shared.errors import PipelineError, UntrainedArchive
from pipeline.shared.signals import leave, on_stopping
from pipeline.shared.terminal import err, megabytes, out, spinner, transfer_bar, warn
from pipeline.store.bucket import connect
from pipeline.store.oci.pushing import Pushed, push_version
from pipeline.store.oci.reading import list_tags
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from pipeline.store.places import Place, is_place, parse_place
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.registry import list_versions


def publish(
    destination: Annotated[
        str, typer.Argument(metavar="URI", help="Where to publish: gs://BUCKET[/PREFIX] or oci://REGISTRY/REPOSITORY.")
    ],
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|gs://…|oci://…",
            help="A .mar file that scripts/package.sh made, or the models/NAME.yaml of one; or a version that is "
            f"published elsewhere, which is copied unchanged; without it, {SHOWN_ARCHIVES}.",
        ),
    ] = None,
    show_versions: Annotated[bool, typer.Option("--list", help="Show the versions there; publish nothing.")] = False,
    allow_untrained: Annotated[bool, typer.Option("--allow-untrained", help="Publish even untrained weights.")] = False,
) -> None:
    """Publish the archive as an immutable version in Cloud Storage or a registry. Prints its storageUri."""
    on_stopping(leave)  # the next run finds what was sent; nobody sees an incomplete version
    place = parse_place(destination)
    if isinstance(place, OciUri) and place.reference:
        raise PipelineError(f"{place} is a version, and that never changes: publish to {place.parent}")
    if show_versions:
        _list(place)
        return
    began = time.monotonic()
    if archive is not None and is_place(archive):
        outcome = promote(place, parse_place(archive), allow_untrained)
    else:
        outcome = send(place, archive_said(archive, "--archive FILE"), allow_untrained)
    seconds = f"{time.monotonic() - began:.1f} s"
    if outcome.new or outcome.sent:
        err.print(f"sent {megabytes(outcome.sent)} in {seconds}")
    else:
        err.print(f"already published ({seconds})")
    out.print(str(outcome.uri))


def send(place: Place, archive: Path, allow_untrained: bool) -> Outcome | Pushed:
    """Raises PipelineError if it should not be published, or the destination refuses it."""
    files = version_files(archive)
    with spinner("reading the archive …"):
        version = Version.of(files)
    if SIGNATURE in files:
        from pipeline.artefact.signature import check_fit  # its library takes 0.9 s

        check_fit(version, files[SIGNATURE])
    return _send(place, archive, version, files, allow_untrained)


def promote(place: Place, source: Place, allow_untrained: bool) -> Outcome | Pushed:
    """Publishes once more what was published: the same objects, so the same name, and with them their signature.

    Raises PipelineError where `source` is no complete version, or is not as it was published, too.
    """
    from pipeline.commands.serve import pull  # it also imports a server's modules

    directory = pull(source)
    version = Version.from_json((directory / VERSION_FILE).read_bytes(), f"{source}/{VERSION_FILE}")
    return _send(place, source, version, {name: directory / name for name in version.objects}, allow_untrained)


def _send(
    place: Place, source: Path | Place, version: Version, files: Mapping[str, Path], allow_untrained: bool
) -> Outcome | Pushed:
    if not version.trained and not allow_untrained:
        raise UntrainedArchive(source)
    with spinner(f"publishing version {version.name} …"), transfer_bar("sending") as progress:
        if isinstance(place, OciUri):
            with Registry(place, for_writing=True) as registry:
                return push_version(registry, version, files, progress)
        client = connect(for_writing=True)
        return publish_version(client, place, version, files, progress, warn)


def _list(place: Place) -> None:
    if isinstance(place, OciUri):
        _list_tags(place)
        return
    with spinner(f"asking for {place} …"):
        versions = list_versions(connect(), place, warn)
    if not versions:
        warn(f"no versions directly under {place}")
    for published in versions:
        when = published.time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        out.print(f"{when}  {megabytes(published.version.size):>9}  {published.version.origin:10}  {published.uri}")


def _list_tags(place: OciUri) -> None:
    """A registry does not say when something was published."""
    with spinner(f"asking for {place} …"), Registry(place) as registry:
        versions = list_tags(registry, warn)
    if not versions:
        warn(f"no versions in {place.parent}")
    for uri, version in versions:
        out.print(f"{megabytes(version.size):>9}  {version.origin:10}  {uri}")
