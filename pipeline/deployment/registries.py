"""A version in a registry: the URI by which KServe loads it into a pod, and whether this cluster's KServe can.

Sources: https://github.com/kserve/kserve, pkg/webhook/admission/pod/{mutator,oci_fetch}.go, and docs/oci.md:

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
    """The service's storageUri: with the digest, and `oci+fetch://` unless the user chose oci+native://."""
    uri = OciUri.parse(said)
    scheme = NATIVE if said.startswith(NATIVE) else FETCH
    return scheme + str(uri.at(uri.tag, artefact.digest)).removeprefix(SCHEME)


def check_registry(cluster: Cluster, service: Object, kserve: KServeVersion | None, warn: Line) -> None:
    """Raises PipelineError if this KServe would start pods without the version, or no pods."""
    uri = storage_uri_of(service) or ""
    scheme = next((scheme for scheme in SINCE if uri.startswith(scheme)), None)
    if scheme is None:
        return
    if kserve is not None and kserve < SINCE[scheme]:
        raise PipelineError(
            f"KServe supports {scheme} from {dotted(SINCE[scheme])} on, but this cluster has {dotted(kserve)}: "
            "upgrade it, or publish the version to Cloud Storage (scripts/publish.sh gs://…)"
        )
    if scheme == FETCH and "storageContainerName" in service["spec"]["predictor"]:
        raise PipelineError(
            "KServe pulls from registries with its own container, but the overlay names another "
            f"(storageContainerName): remove components/restricted-namespace from it, or use {NATIVE}"
        )
    settings = _settings(cluster)
    if settings is None:
        warn(f"cannot tell whether this KServe pulls from registries: if its pods start without a model, {SWITCH}")
    elif not (settings.get("ociModelMode") or settings.get("enableOciModelSupport") or settings.get("enableModelcar")):
        raise PipelineError(f"this KServe does not pull from registries: {SWITCH}")


def _settings(cluster: Cluster) -> dict[str, Any] | None:
    """KServe's settings for its storage initializer; None if they cannot be read."""
    try:
        found = cluster.ask("GET", SETTINGS, allowed=(404,))
        settings = json.loads(found.body["data"]["storageInitializer"]) if found.status == 200 else None
    except (Refused, ValueError, LookupError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None
