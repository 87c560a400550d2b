"""An overlay of kserve/ as objects, with the version, the image and the namespace filled in."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from pipeline.deployment.errors import OtherNamespace, OverlayUnusable
from pipeline.deployment.names import MARK, SERVICE, named
from pipeline.deployment.objects import (
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Object,
    name_of,
    server_containers,
    service_of,
)
from pipeline.shared.errors import PipelineError

STANDARD = "standard"  # the default overlay

GUARD = "GCPBackendPolicy"  # limits and authentication come before a route to the service

FIRST = ("Namespace", "ClusterStorageContainer", "ServiceAccount", SERVING_RUNTIME, GUARD)
LAST = (INFERENCE_SERVICE,)
IN_NO_NAMESPACE = ("Namespace", "ClusterStorageContainer")  # among the kinds that overlays have


def overlay_names(overlays: Path) -> list[str]:
    return sorted(found.parent.name for found in overlays.glob("*/kustomization.yaml"))


def render(overlays: Path, overlay: str, name: str | None = None) -> list[Object]:
    """The objects of an overlay, in the order of applying. Nothing in the checkout is changed.

    name: the service's, from which other names derive; by default the overlay's.

    Raises PipelineError if there is no such overlay, no program to render it, it cannot be rendered, or it has its own
    name and another one is requested.
    """
    names = overlay_names(overlays)
    if overlay not in names:
        raise PipelineError(f"there is no overlay {overlay}: choose one of {', '.join(names) or 'none'}")
    if name is None:
        return in_order(_rendered(overlays / overlay, overlay))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        marked = {"namePrefix": MARK, "resources": [os.path.relpath((overlays / overlay).resolve(), folder)]}
        (folder / "kustomization.yaml").write_text(json.dumps(marked))
        objects = _rendered(folder, overlay)
    own = name_of(service_of(objects)).removeprefix(MARK)
    if own not in (SERVICE, name):
        raise OverlayUnusable(overlay, f"names its service {own} itself: leave out --name, or give --name {own}")
    return in_order(named(objects, own, name))


def _rendered(folder: Path, overlay: str) -> list[Object]:
    command = _renderer()
    # Google's kubectl asks the cluster for its version even for this, and hangs without one: so hide the kube config.
    environment = os.environ | {"KUBECONFIG": os.devnull}
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "no reason given").splitlines()[-1].removeprefix("error: ")
        raise OverlayUnusable(overlay, f"cannot be rendered: {said}")
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    if [found["kind"] for found in objects].count(INFERENCE_SERVICE) != 1:
        raise OverlayUnusable(overlay, "must have exactly one InferenceService, as this project's overlays do")
    return objects


def in_order(objects: list[Object]) -> list[Object]:
    """In the order of applying: objects come before those that refer to them."""
    return sorted(objects, key=lambda found: _rank(found["kind"]))


def _renderer() -> list[str]:
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            return command
    raise PipelineError(
        "neither kubectl nor kustomize is installed, and the overlay needs one of them: "
        "gcloud components install kubectl"
    )


def _rank(kind: str) -> int:
    if kind in FIRST:
        return FIRST.index(kind)
    return len(FIRST) + 1 + LAST.index(kind) if kind in LAST else len(FIRST)


def placed(objects: list[Object], storage_uri: str, image: str | None) -> list[Object]:
    """The same objects with another version and, if given, another image.

    Raises PipelineError if there is no container for the image.
    """
    objects = copy.deepcopy(objects)
    service_of(objects)["spec"]["predictor"]["model"]["storageUri"] = storage_uri
    if image is not None:
        containers = server_containers(objects)
        if not containers:
            raise PipelineError(
                "this overlay uses KServe's own runtime, whose image cannot be changed: leave out --image"
            )
        for container in containers:
            container["image"] = image
    return objects


def in_namespace(objects: list[Object], namespace: str) -> list[Object]:
    """The same objects in this namespace, except those that belong to none."""
    return [
        found
        if found["kind"] in IN_NO_NAMESPACE
        else found | {"metadata": found["metadata"] | {"namespace": namespace}}
        for found in objects
    ]


def check_namespace(objects: list[Object], overlay: str, namespace: str) -> None:
    """Raises OtherNamespace if the overlay sets another one: its settings for that would not apply in this one."""
    chosen = {found["metadata"]["namespace"] for found in objects if "namespace" in found["metadata"]}
    if others := sorted(chosen - {namespace}):
        raise OtherNamespace(overlay, others[0], namespace)
