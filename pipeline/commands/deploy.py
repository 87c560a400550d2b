"""scripts/deploy.sh: a version becomes a service of KServe's."""

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
            help="The model, after which the service is called; a version in Cloud Storage or a registry tells it too.",
        ),
    ] = None,
    storage_uri: Annotated[
        str | None, typer.Option(metavar="gs://…|oci://…", help="The version, as scripts/publish.sh printed it.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the service, one of several in a namespace; without it, that of the model."
        ),
    ] = None,
    overlay: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of kserve/overlays; without it, standard.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Without it, that of the kube context.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The serving image; without it, that of the overlay.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to the version before.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what was applied, and nothing else.")] = False,
    no_rollback: Annotated[bool, typer.Option("--no-rollback", help="Leave a version that fails.")] = False,
    golden: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|gs://…",
            help="Pictures that the version has to answer as the live one does; else nothing is changed.",
        ),
    ] = None,
    require_agreement: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="With --golden: so many must agree. Without it, versions must be equal."
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="How long a version may take, beside 15 minutes for a node that must be made.",
        ),
    ] = 600,
) -> None:
    """Deploy a version on KServe, and prove that it answers. Prints its public URL if that answers from here, or else
    the kubectl command that brings its port here."""
    if [storage_uri is not None, rollback, delete].count(True) != 1:
        raise typer.BadParameter("give one of --storage-uri, --rollback and --delete")
    if storage_uri is None and (image is not None or no_rollback):
        raise typer.BadParameter("--image and --no-rollback go with --storage-uri")
    if rollback and overlay is not None:
        raise typer.BadParameter("--overlay does not go with --rollback, which keeps to what was applied")
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
    """Shows what is being waited for: beside a spinner, or where there is no terminal, as a line for each change.

    Two that take turns, as those of a container that crashes and starts again, are one line each.
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
