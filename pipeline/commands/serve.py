"""scripts/serve.sh: TorchServe with an archive, on loopback."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.artefact.archive import model_name
from pipeline.artefact.version import CONFIG, SIGNATURE, STORE, VERSION_FILE, Version
from pipeline.commands.files import (
    OF_MODELS,
    PHOTOGRAPH,
    archive_said,
    laid_out,
    relative,
    signature_beside,
    signed_files,
    version_files,
)
from pipeline.commands.trusting import IDENTITY, PROVIDER, PUBLIC_KEY, TRUST_ROOT, trusted
from pipeline.serving.folder import archive_in
from pipeline.serving.torchserve import ENVELOPE, TorchServe, has_envoy
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports
from pipeline.shared.signals import NotedSignals, Terminated
from pipeline.shared.terminal import err, out, spinner, transfer_bar, warn
from pipeline.store.places import Place, parse_place

if TYPE_CHECKING:
    from pipeline.artefact.keyless import Identity

# Variables of TorchServe that this command sets or ignores, and why.
NOT_OF_THE_USER = dict.fromkeys(
    ("TS_INFERENCE_ADDRESS", "TS_MANAGEMENT_ADDRESS", "TS_METRICS_ADDRESS"),
    "everything listens on loopback, and --port sets the port",
) | {
    "TS_GRPC_INFERENCE_ADDRESS": "gRPC listens on loopback",
    "TS_GRPC_MANAGEMENT_ADDRESS": "gRPC listens on loopback",
    "TS_GRPC_INFERENCE_PORT": "gRPC takes any free port",
    "TS_GRPC_MANAGEMENT_PORT": "gRPC takes any free port",
    "TS_CONFIG_FILE": "the settings come with the archive",
    "TS_MODEL_STORE": "this command chooses the archive",
    "TS_LOAD_MODELS": "this command chooses the archive",
    "TS_MODEL_SNAPSHOT": "this command chooses the archive",
}


def serve(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="gs://…|oci://…|DIRECTORY|FILE",
            help="A storageUri, a directory with config/ and model-store/, a .mar file, or a models/NAME.yaml whose "
            "archive is built; without it, the archive of this checkout.",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=1, max=65533, help="For inference; management and metrics take the next two."),
    ] = 8080,
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar=PUBLIC_KEY, help="Serve only what this key, in PEM, has signed."),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar=IDENTITY,
            help="Serve only what this identity signed with Sigstore: an email address or a workflow's URL.",
        ),
    ] = None,
    identity_provider: Annotated[
        str | None, typer.Option(metavar="URL", envvar=PROVIDER, help="With --identity: its OpenID provider.")
    ] = None,
    trust_root: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar=TRUST_ROOT, help="With --identity: Sigstore's keys, trusted_root.json."),
    ] = None,
) -> None:
    """Serve on loopback until interrupted."""
    began = time.monotonic()
    by = trusted(public_key, identity, identity_provider, trust_root)
    if source is not None and ":" in source.partition("/")[0]:
        source = str(pull(parse_place(source)))
    archive = archive_said(source, "FILE") if _is_archive(source) else None
    if by is not None:
        _verify(source, archive, by)
    if not has_envoy():
        warn("there is no Envoy here, so TorchServe answers directly: docs/settings.md says what is missing")
    with ExitStack() as stack:
        obey = stack.enter_context(NotedSignals()).obey
        with spinner("TorchServe is starting …"):
            directory = stack.enter_context(_directory_to_serve(source, archive))
            name = model_name(archive_in(directory))
            server = stack.enter_context(
                TorchServe(directory, name, Ports.starting_at(port), err.print, _settings_of_the_user(), obey)
            )
        out.print(f"ready after {time.monotonic() - began:.1f} s: {server.predict_url} (Ctrl-C stops)")
        photograph = shlex.quote(relative(PHOTOGRAPH))
        out.print(
            f"curl --noproxy '*' -sS -H 'Content-Type: image/jpeg' --data-binary @{photograph} {server.predict_url}"
        )
        with suppress(Terminated):
            server.wait()
        err.print("TorchServe is stopping …")


def _settings_of_the_user() -> dict[str, str]:
    """The TS_* variables, which override config.properties here as in the pod, except those that would change what this
    command promises: its ports, and loopback. Raises PipelineError for one that the pod does not accept either."""
    if os.environ.get(ENVELOPE):
        raise PipelineError(f"{ENVELOPE} is set: the handler reads KServe's bodies itself; unset it")
    found = {name: value for name, value in os.environ.items() if name.startswith("TS_")}
    for name in sorted(found.keys() & NOT_OF_THE_USER):
        warn(f"{name} is ignored here: {NOT_OF_THE_USER[name]}")
    return {name: value for name, value in found.items() if name not in NOT_OF_THE_USER}


def _is_archive(source: str | None) -> bool:
    """Whether this means an archive, which may not exist, rather than a directory."""
    if source is None:
        return True
    return not Path(source).is_dir() and (Path(source).is_file() or Path(source).suffix in (".mar", *OF_MODELS))


def pull(uri: Place, cache: Path | None = None) -> Path:
    """The folder in the cache with the version at a storageUri. Raises PipelineError if there is no such version."""
    from pipeline.store.pull import cache_directory, pull_version  # Google's libraries take 0.2 s

    with spinner(f"looking for {uri} …"), transfer_bar("downloading") as progress:
        return pull_version(uri, cache or cache_directory(), progress, warn)


def _verify(source: str | None, archive: Path | None, by: Path | Identity) -> None:
    """Raises PipelineError unless `by` signed what will be served: the archive, or the source directory."""
    from pipeline.artefact.signature import verify  # its library takes 0.9 s

    if archive is not None:
        files, signature = signed_files(archive), signature_beside(archive)
    else:
        directory = Path(str(source))
        served = archive_in(directory)
        files = {CONFIG: directory / CONFIG, f"{STORE}/{served.name}": served}
        signature = directory / SIGNATURE
    with spinner("checking the signature …"):
        verify(files, signature, by)


@contextmanager
def _directory_to_serve(source: str | None, archive: Path | None) -> Iterator[Path]:
    """The source; or, for an archive, a directory in KServe's layout with only it and this checkout's settings."""
    if archive is None:
        yield Path(str(source))
        return
    with tempfile.TemporaryDirectory(prefix="alexnet-") as made:
        directory = laid_out(archive, Path(made))
        with suppress(PipelineError, OSError):  # such as a signature that cannot be read
            (directory / VERSION_FILE).write_bytes(Version.of(version_files(archive)).to_json())
        yield directory
