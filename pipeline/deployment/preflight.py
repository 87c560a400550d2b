"""The checks before anything in the cluster is changed. Each has a line for the user."""

from __future__ import annotations

import re

from pipeline.artefact.version import Version
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import MayNot, NoNamespace, Refused, Unreachable
from pipeline.deployment.kserve_versions import NEWEST, OLDEST, SUPPORTED, UNKNOWN, KServeVersion, dotted
from pipeline.deployment.objects import (
    AUTOSCALER,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Object,
    annotations_of,
    is_on_knative,
)
from pipeline.deployment.registries import uri_for_kserve
from pipeline.deployment.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    INFERENCE_SERVICES,
    NAMESPACES,
    PODS,
    SERVICES,
    SERVING_RUNTIMES,
    Resource,
)
from pipeline.deployment.voice import Line, Voice
from pipeline.shared.errors import PipelineError
from pipeline.store.oci.reading import read_whole
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from pipeline.store.places import is_in_registry
from pipeline.store.storage_uri import SCHEME, StorageUri

Permission = tuple[str, Resource, str]  # a verb, and a subresource or ""
NEEDED_TO_WAIT: tuple[Permission, ...] = (
    ("list", DEPLOYMENTS, ""),
    ("list", PODS, ""),
    ("get", PODS, "log"),
    ("list", EVENTS, ""),
    ("create", SERVICES, "proxy"),
    ("get", SERVICES, "proxy"),  # for a service that requires credentials
    *((verb, CONFIG_MAPS, "") for verb in ("get", "create", "update")),  # the record of versions
)


def check_cluster(cluster: Cluster, say: Line) -> None:
    """Raises Unreachable, Refused or NoNamespace."""
    say(f"cluster      {cluster.context}, Kubernetes {cluster.version}, namespace {cluster.namespace}")
    try:
        found = cluster.get(NAMESPACES, cluster.namespace)
    except Refused as error:
        if error.status != 403:
            raise
        return  # a role may allow work in a namespace without reading it
    if found is None:
        raise NoNamespace(cluster.namespace)


def check_kserve(cluster: Cluster, voice: Voice) -> KServeVersion | None:
    """→ KServe's version, as `kserve_version`. Raises PipelineError if KServe is not installed, or too old."""
    for resource, kind in ((INFERENCE_SERVICES, INFERENCE_SERVICE), (SERVING_RUNTIMES, SERVING_RUNTIME)):
        if not cluster.knows(resource.api_version, kind):
            raise PipelineError(
                f"the cluster does not know {kind} ({resource.api_version}): install KServe {SUPPORTED} in it"
            )
    version = kserve_version(cluster)
    if version is None:
        voice.warn(f"KServe's version is unknown: this supports {SUPPORTED}, and goes on as for {dotted(UNKNOWN)}")
        return None
    number = dotted(version)
    if version[:2] < OLDEST:
        raise PipelineError(f"the cluster has KServe {number}, and {SUPPORTED} is needed: upgrade it")
    if version[:2] > NEWEST:
        voice.warn(f"the cluster has KServe {number}, which is newer than this supports ({SUPPORTED})")
    voice.say(f"KServe       {number}")
    return version


def kserve_version(cluster: Cluster) -> KServeVersion | None:
    """From its controller's image, or the label that Helm gives it; None if neither can be read.

    The CustomResourceDefinitions and the ConfigMap inferenceservice-config do not have it.
    """
    name = "kserve-controller-manager"
    query = {"labelSelector": f"control-plane={name}"}
    for path in ("/apis/apps/v1/deployments", "/apis/apps/v1/namespaces/kserve/deployments"):
        try:
            listed = cluster.ask("GET", path, query).body.get("items", [])
        except Refused:
            continue
        texts = [text for controller in listed for text in _version_texts(controller)]
        for text in texts:
            if number := re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text):
                return tuple(int(part) for part in number.groups("0"))
    return None


def _version_texts(controller: Object) -> list[str]:
    """Texts that may contain its version, the most reliable first."""
    containers = controller["spec"]["template"]["spec"]["containers"]
    images = [str(found["image"]) for found in containers if found["name"] == "manager"]
    tags = [image.partition("@")[0].rpartition(":")[2] for image in images]
    return [*tags, controller["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")]


def check_helpers(cluster: Cluster, service: Object, warn: Line) -> None:
    """What this InferenceService needs besides KServe has to be in the cluster: Knative, KEDA, metrics.

    Raises PipelineError if one is missing. Without metrics a version serves, with its minimum of pods.
    """
    if is_on_knative(service):
        if not cluster.knows("serving.knative.dev/v1", "Service"):
            raise PipelineError(
                "the cluster does not have Knative Serving (serving.knative.dev/v1), which this overlay needs: "
                "install it and restart KServe's controller, or choose another --overlay"
            )
        return
    autoscaler = annotations_of(service).get(AUTOSCALER, "hpa")
    if autoscaler == "keda" and not cluster.knows("keda.sh/v1alpha1", "ScaledObject"):
        raise PipelineError(
            "the cluster does not have KEDA (keda.sh/v1alpha1), which sets the number of pods in this overlay: "
            "install it, or use the component autoscaling-hpa instead"
        )
    if autoscaler == "hpa" and not _has_metrics(cluster):
        warn(
            "the cluster has no pod metrics (metrics.k8s.io/v1beta1), so the number of pods will not change: "
            "install metrics-server"
        )


def _has_metrics(cluster: Cluster) -> bool:
    try:
        return cluster.knows("metrics.k8s.io/v1beta1", "PodMetrics")
    except Unreachable:  # the API is registered, but its server does not answer
        return False


def check_permissions(cluster: Cluster, permissions: list[Permission], say: Line) -> None:
    """Raises MayNot, which names all missing permissions."""
    missing = [
        f"{verb} {resource.name}{'/' + subresource if subresource else ''}"
        for verb, resource, subresource in dict.fromkeys(permissions)
        if not cluster.may(verb, resource, subresource)
    ]
    if missing:
        raise MayNot(", ".join(missing), cluster.namespace)
    say("permissions  all that are needed")


def to_apply(cluster: Cluster, objects: list[Object]) -> list[Permission]:
    return _permissions(cluster, objects, "get", "create", "patch")


def to_delete(cluster: Cluster, objects: list[Object]) -> list[Permission]:
    return _permissions(cluster, objects, "get", "delete")


def _permissions(cluster: Cluster, objects: list[Object], *verbs: str) -> list[Permission]:
    return [(verb, cluster.resource_of(found), "") for found in objects for verb in verbs]


def check_image(image: str | None, say: Line) -> None:
    """Says if a roll-back could get another image. An image without a registry is on the nodes, and never pulled."""
    host, slash, _ = (image or "").partition("/")
    is_of_a_registry = bool(slash) and (host == "localhost" or "." in host or ":" in host)
    if is_of_a_registry and "@" not in str(image):
        say(f"image        {image}: a tag can be moved to another image, a digest (NAME@sha256:…) cannot")


def version_at(storage_uri: str) -> tuple[str, Version | None]:
    """The storageUri for KServe, and the version in the bucket or the registry; None if it is elsewhere.

    Raises PipelineError unless it is complete.
    """
    if is_in_registry(storage_uri):
        uri = OciUri.parse(storage_uri)
        with Registry(uri) as registry:
            artefact = read_whole(registry, uri)
        return uri_for_kserve(storage_uri, artefact), artefact.version
    if not storage_uri.startswith(SCHEME):
        if "://" not in storage_uri:
            raise PipelineError(
                f"{storage_uri!r} is not a storageUri: scripts/publish.sh prints one, gs://… or oci://…"
            )
        return storage_uri, None
    from pipeline.store.bucket import connect
    from pipeline.store.registry import read_version

    return storage_uri, read_version(connect(), StorageUri.parse(storage_uri))


def tell_version(storage_uri: str, version: Version | None, voice: Voice) -> None:
    """Prints what `version_at` found."""
    if version is None:
        voice.warn(f"{storage_uri} is neither in Cloud Storage nor in a registry, so it was not checked")
        return
    untrained = "" if version.trained else ", with untrained weights: what it predicts is meaningless"
    voice.say(f"version      {storage_uri} is whole{untrained}")
