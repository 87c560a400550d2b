"""scripts/deploy.sh: deploys a version as a KServe service."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artefact.model import read_model
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.terminal import err, out, spinner, warn


def deploy(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="models/NAME.yaml",
            help="The model, which names the service. A version in Cloud Storage or a registry names its model too.",
        ),
    ] = None,
    storage_uri: Annotated[
        str | None, typer.Option(metavar="gs://…|oci://…", help="The version, as scripts/publish.sh printed it.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The service's name, if a namespace has several. Default: the model's name."),
    ] = None,
    overlay: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of kserve/overlays. Default: standard.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Default: the namespace of the kube context.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The serving image. Default: the overlay's.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to the previous version.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what was applied, and nothing else.")] = False,
    no_rollback: Annotated[bool, typer.Option("--no-rollback", help="Keep a version that fails.")] = False,
    golden: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|gs://…",
            help="Pictures for which the new version must give the live one's answers; otherwise nothing is changed.",
        ),
    ] = None,
    require_agreement: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="With --golden: the share of pictures that must agree. Without it, the versions must be equal.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="How long a version may take, plus 15 minutes if a node must be created.",
        ),
    ] = 600,
) -> None:
    """Deploy a version on KServe, and prove that it answers. Prints its public URL if that can be reached from here;
    otherwise the kubectl command that forwards its port."""
    if [storage_uri is not None, rollback, delete].count(True) != 1:
        raise typer.BadParameter("give one of --storage-uri, --rollback and --delete")
    if storage_uri is None and (image is not None or no_rollback):
        raise typer.BadParameter("--image and --no-rollback go with --storage-uri")
    if rollback and overlay is not None:
        raise typer.BadParameter("--overlay does not go with --rollback, which keeps the overlay that was applied")
    if golden is not None and storage_uri is None:
        raise typer.BadParameter("--golden goes with --storage-uri")
    if require_agreement is not None and golden is None:
        raise typer.BadParameter("--require-agreement goes with --golden")
    from pipeline.deployment.cluster import Cluster  # the kubernetes package takes 1 s
    from pipeline.deployment.deploy import Deployment
    from pipeline.deployment.golden import read_golden
    from pipeline.deployment.manifests import STANDARD
    from pipeline.deployment.names import check_free_ending
    from pipeline.deployment.pace import Pace
    from pipeline.deployment.voice import Voice

    if storage_uri is not None and name is not None:
        check_free_ending(name)
    model_name = None if model is None else read_model(model).name
    with ExitStack() as stack:
        pictures = None
        if golden is not None:
            with spinner(f"reading the pictures of {golden}"):
                pictures = read_golden(golden, require_agreement)
        cluster = stack.enter_context(closing(Cluster(namespace)))
        voice = Voice(err.print, warn, stack.enter_context(_changes("asking the cluster")))
        deployment = Deployment(cluster, CHECKOUT / "kserve" / "overlays", voice, Pace(timeout), name, model_name)
        if storage_uri is not None:
            chosen = overlay or STANDARD
            way_in = deployment.deploy(storage_uri, chosen, image, rollback=not no_rollback, golden=pictures)
        elif rollback:
            way_in = deployment.roll_back()
        else:
            deployment.delete(overlay)
            return
    out.print(way_in)


@contextmanager
def _changes(first: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being waited for: next to a spinner or, without a terminal, as one line for each change.

    If two states alternate, as when a container crashes and restarts, each is printed once.
    """
    told = deque([first], maxlen=2)
    with spinner(first) as say:

        def show_if_new(line: str) -> None:
            say(line)
            if line not in told:
                told.append(line)
                if not err.is_terminal:
                    err.print(f"waiting      {line}")

        yield show_if_new
