"""Whether the live version serves: checked before it is replaced, if there is no record that it does."""

from __future__ import annotations

from pipeline.deployment.annotations import DEPLOYED
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import SmokeTestFailed
from pipeline.deployment.objects import CONTAINER, Object, annotations_of, is_on_knative, is_ready, storage_uri_of
from pipeline.deployment.pace import Pace
from pipeline.deployment.resources import PODS, pods_of
from pipeline.deployment.smoke_test import ask_model

REVISION = "serving.knative.dev/revision"  # Knative's label of pods
# https://github.com/kserve/kserve/blob/v0.20.0/pkg/constants/constants.go
SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"


def serves(cluster: Cluster, service: Object, image: str | None, pace: Pace) -> bool:
    """Whether every pod that takes requests is of this version, and the model answers.

    service: the InferenceService as the cluster has it. image: the server's; None if unknown.
    Raises OutOfReach if it cannot be reached, or what else the cluster raises.
    """
    on_knative = is_on_knative(service)
    if not on_knative and not _are_all_of(cluster, service, image):
        return False  # it would be unclear which of them answered
    try:
        ask_model(cluster, service, pace)  # which wakes a service without pods
    except SmokeTestFailed:
        return False
    return not on_knative or _are_all_of(cluster, service, image)


def _are_all_of(cluster: Cluster, service: Object, image: str | None) -> bool:
    """On Knative, only of the revision that is called: pods of others may stay for a while."""
    pods = [pod for pod in cluster.find(PODS, **pods_of(service)) if is_ready(pod) and not _is_going(pod)]
    if is_on_knative(service):
        revision = service["status"]["components"]["predictor"]["latestReadyRevision"]
        pods = [pod for pod in pods if pod["metadata"].get("labels", {}).get(REVISION) == revision]
    return bool(pods) and all(is_of(pod, service, image) for pod in pods)


def _is_going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_of(pod: Object, service: Object, image: str | None) -> bool:
    """Whether a pod, or a template of pods, is of this version.

    The fingerprint alone is not enough: applying a runtime or a storageUri by other means leaves it unchanged.
    """
    of_pod, of_service, uri = annotations_of(pod), annotations_of(service), storage_uri_of(service)
    containers = [found for found in pod.get("spec", {}).get("containers", []) if found["name"] == CONTAINER]
    return (
        of_pod.get(DEPLOYED) == of_service.get(DEPLOYED)
        and of_pod.get(SOURCE_URI, uri) == uri
        and all(image is None or _is_image(found["image"], image) for found in containers)
    )


def _is_image(found: str, image: str) -> bool:
    """KServe appends -gpu on a GPU; Knative replaces a tag with a digest, which cannot be compared with it."""
    return found in (image, f"{image}-gpu") or ("@" in found and "@" not in image)
