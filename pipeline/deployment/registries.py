"""A version in a registry: by which URI KServe brings it into a pod, and whether this cluster's KServe does so.

Read in https://github.com/kserve/kserve, pkg/webhook/admission/pod/{mutator,oci_fetch}.go, and docs/oci.md:

    oci://          a sidecar that runs the image, which a version is not: it has no programs
    oci+fetch://    the storage initializer pulls it, as it does from Cloud Storage; from KServe 0.21 on
    oci+native://   the kubelet mounts it, with the credentials of the node; from KServe 0.20 on, with image volumes
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import Refused
from pipeline.deployment.kserve_versions import KServeVersion, dotted
from pipeline.deployment.objects import Object, storage_uri_of
from pipeline.deployment.voice import Line
from pipeline.shared.errors import PipelineError
from pipeline.store.oci.layout import Artefact
from pipeline.store.oci.uri import SCHEME, OciUri

FETCH, NATIVE = "oci+fetch://", "oci+native://"
SINCE = {FETCH: (0, 21), NATIVE: (0, 20)}

SETTINGS = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
SWITCH = (
    "set enableOciModelSupport to true in the part storageInitializer of the ConfigMap inferenceservice-config "
    "in namespace kserve"
)


def uri_for_kserve(said: str, artefact: Artefact) -> str:
    """What is written into the service: with the digest, and by `oci+fetch://` unless the user wants another way."""
    uri = OciUri.parse(said)
    scheme = NATIVE if said.startswith(NATIVE) else FETCH
    return scheme + str(uri.at(uri.tag, artefact.digest)).removeprefix(SCHEME)


def check_registry(cluster: Cluster, service: Object, kserve: KServeVersion | None, warn: Line) -> None:
    """Raises PipelineError where this KServe would start pods without the version, or none at all."""
    uri = storage_uri_of(service) or ""
    scheme = next((scheme for scheme in SINCE if uri.startswith(scheme)), None)
    if scheme is None:
        return
    if kserve is not None and kserve < SINCE[scheme]:
        raise PipelineError(
            f"KServe takes {scheme} from {dotted(SINCE[scheme])} on, and this cluster has {dotted(kserve)}: "
            "upgrade it, or publish the version to Cloud Storage (scripts/publish.sh gs://…)"
        )
    if scheme == FETCH and "storageContainerName" in service["spec"]["predictor"]:
        raise PipelineError(
            "KServe pulls from a registry with a container of its own, and the overlay names another "
            f"(storageContainerName): take components/restricted-namespace out of it, or use {NATIVE}"
        )
    settings = _settings(cluster)
    if settings is None:
        warn(f"whether this KServe pulls from registries cannot be read: if its pods start without a model, {SWITCH}")
    elif not (settings.get("ociModelMode") or settings.get("enableOciModelSupport") or settings.get("enableModelcar")):
        raise PipelineError(f"this KServe does not pull from registries: {SWITCH}")


def _settings(cluster: Cluster) -> dict[str, Any] | None:
    """KServe's settings of its storage initializer; None where they cannot be read."""
    try:
        found = cluster.ask("GET", SETTINGS, allowed=(404,))
        settings = json.loads(found.body["data"]["storageInitializer"]) if found.status == 200 else None
    except (Refused, ValueError, LookupError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None
