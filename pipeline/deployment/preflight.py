"""What is checked before anything in the cluster is changed. Each check has a line for the user."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.deployment.cluster import (
    DEPLOYMENTS,
    EVENTS,
    PODS,
    RUNTIMES,
    SERVICES,
    Cluster,
    Refused,
    Resource,
)
from pipeline.shared.errors import PipelineError
from pipeline.store.storage_uri import SCHEME, StorageUri

Object = dict[str, Any]
Say = Callable[[str], None]

OLDEST, NEWEST = (0, 15), (0, 20)  # KServe's versions that this is made for
SUPPORTED = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"

Permission = tuple[str, Resource, str]
NEEDED_TO_WAIT: tuple[Permission, ...] = (
    ("list", DEPLOYMENTS, ""),
    ("list", PODS, ""),
    ("get", PODS, "log"),
    ("list", EVENTS, ""),
    ("create", Resource("v1", "services", True), "proxy"),
)


def check_cluster(cluster: Cluster, say: Say) -> None:
    """Raises PipelineError where it does not answer, or does not have the namespace."""
    say(f"cluster      {cluster.context}, Kubernetes {cluster.version}, namespace {cluster.namespace}")
    namespaces = Resource("v1", "namespaces", False)
    try:
        found = cluster.get(namespaces, cluster.namespace)
    except Refused as error:
        if error.status != 403:
            raise
        return  # one may work in a namespace without seeing it
    if found is None:
        raise PipelineError(
            f"there is no namespace {cluster.namespace}: kubectl create namespace {cluster.namespace}, "
            "or choose another --namespace"
        )


def check_kserve(cluster: Cluster, say: Say, warn: Say) -> None:
    """Raises PipelineError where KServe is not installed, or too old."""
    for resource, kind in ((SERVICES, "InferenceService"), (RUNTIMES, "ServingRuntime")):
        if cluster.resource(resource.api_version, kind) is None:
            raise PipelineError(
                f"the cluster does not know {kind} ({resource.api_version}): install KServe {SUPPORTED} in it"
            )
    version = kserve_version(cluster)
    if version is None:
        warn(f"KServe's version cannot be told: this is made for {SUPPORTED}")
        return
    number = ".".join(map(str, version))
    if version[:2] < OLDEST:
        raise PipelineError(f"the cluster has KServe {number}, and {SUPPORTED} is needed: upgrade it")
    if version[:2] > NEWEST:
        warn(f"the cluster has KServe {number}, which is younger than this was made for ({SUPPORTED})")
    say(f"KServe       {number}")


def kserve_version(cluster: Cluster) -> tuple[int, ...] | None:
    """By its controller's image, or by the label that Helm gives it; None where neither is to be seen.

    The CustomResourceDefinitions and the ConfigMap inferenceservice-config do not have it.
    """
    name = "kserve-controller-manager"
    query = {"labelSelector": f"control-plane={name}"}
    for path in ("/apis/apps/v1/deployments", "/apis/apps/v1/namespaces/kserve/deployments"):
        try:
            listed = cluster.ask("GET", path, query).body.get("items", [])
        except Refused:
            continue
        for deployment in listed:
            containers = deployment["spec"]["template"]["spec"]["containers"]
            tags = [
                container["image"].partition("@")[0].rpartition(":")[2]
                for container in containers
                if container["name"] == "manager"
            ]
            label = deployment["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")
            for text in (*tags, label):
                if number := re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text):
                    return tuple(int(part) for part in number.groups("0"))
    return None


def check_permissions(cluster: Cluster, permissions: list[Permission], say: Say) -> None:
    """Raises PipelineError that names all that are missing."""
    missing = [
        f"{verb} {resource.name}{'/' + subresource if subresource else ''}"
        for verb, resource, subresource in dict.fromkeys(permissions)
        if not cluster.may(verb, resource, subresource)
    ]
    if missing:
        raise PipelineError(
            f"you may not {', '.join(missing)} in namespace {cluster.namespace}: ask for a role that allows it"
        )
    say("permissions  all that is needed")


def to_apply(cluster: Cluster, objects: list[Object]) -> list[Permission]:
    resources = [cluster.resource_of(found) for found in objects]
    return [(verb, resource, "") for resource in resources for verb in ("get", "create", "patch")]


def to_delete(cluster: Cluster, objects: list[Object]) -> list[Permission]:
    resources = [cluster.resource_of(found) for found in objects]
    return [(verb, resource, "") for resource in resources for verb in ("get", "delete")]


def check_version(storage_uri: str, say: Say, warn: Say) -> None:
    """Raises PipelineError unless the version in the bucket is whole."""
    if not storage_uri.startswith(SCHEME):
        if "://" not in storage_uri:
            raise PipelineError(f"{storage_uri!r} is not a storageUri: scripts/publish.sh prints one, gs://…")
        warn(f"{storage_uri} is not in Cloud Storage, so what lies there was not checked")
        return
    from pipeline.store.bucket import connect
    from pipeline.store.registry import read_version

    version = read_version(connect(), StorageUri.parse(storage_uri))
    untrained = "" if version.trained else ", with untrained weights: what it predicts is meaningless"
    say(f"version      {storage_uri} is whole{untrained}")
