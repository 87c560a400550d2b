"""A new version next to the live one: a separate InferenceService with one pod, to which nobody is routed."""

from __future__ import annotations

import copy
import math
import secrets
from datetime import UTC, datetime
from typing import Any

from pipeline.deployment.annotations import fingerprinted
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.names import CANDIDATE, LONGEST
from pipeline.deployment.objects import (
    AUTOSCALER,
    INFERENCE_SERVICE,
    MODE,
    SERVING_RUNTIME,
    Object,
    annotations_of,
    name_of,
    service_of,
    title_of,
)
from pipeline.deployment.resources import OF_SERVICE
from pipeline.shared.errors import PipelineError

# An annotation: whose candidate this is. Without it, an object with the name is not ours to remove.
CANDIDATE_OF = "torchserve-alexnet/candidate-of"
# And the run that applied it: a replacement by another run must be neither called nor removed.
RUN = "torchserve-alexnet/candidate-run"

SCALING = ("maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget", "autoScaling")
OF_SEVERAL = ("canaryTrafficPercent", "topologySpreadConstraints")  # only useful with several pods
NETWORK_POLICY = "NetworkPolicy"
KINDS = (NETWORK_POLICY, SERVING_RUNTIME, INFERENCE_SERVICE)  # in the order in which they are applied
FOR_MONITORS = "torchserve-alexnet/service"

# With these, KServe creates neither an Ingress nor an HTTPRoute, and Knative no public route.
# https://github.com/kserve/kserve/blob/v0.20.0/pkg/constants/constants.go
LOCAL = {"Standard": "networking.kserve.io/visibility", "Knative": "networking.knative.dev/visibility"}


def candidate_of(objects: list[Object]) -> list[Object]:
    """The runtime and the service of these objects, and the NetworkPolicies of its pods, renamed, in the order of
    applying.

    Everything else stays the same, above all the ServiceAccount, which may read the bucket. Raises PipelineError if the
    service's name leaves no room for the ending.
    """
    name = name_of(service_of(objects))
    if len(name) + len(CANDIDATE) > LONGEST:
        raise PipelineError(f"--golden needs the name {name}{CANDIDATE}, and a name has at most {LONGEST} characters")
    runtimes = {name_of(found) for found in objects if found["kind"] == SERVING_RUNTIME}
    marks = {CANDIDATE_OF: name, RUN: secrets.token_hex(8)}
    beside = []
    for thing in sorted(objects, key=_rank):
        if thing["kind"] in (SERVING_RUNTIME, INFERENCE_SERVICE) or _selected_by(thing) == name:
            renamed = copy.deepcopy(thing)
            metadata = renamed["metadata"]
            metadata["name"] += CANDIDATE
            metadata["annotations"] = annotations_of(renamed) | marks
            metadata.get("labels", {}).pop(FOR_MONITORS, None)
            if thing["kind"] == INFERENCE_SERVICE:
                _alone(renamed, runtimes)
            if thing["kind"] == NETWORK_POLICY:
                renamed["spec"]["podSelector"]["matchLabels"][OF_SERVICE] += CANDIDATE
            beside.append(renamed)
    return fingerprinted(beside, {})


def _rank(thing: Object) -> int:
    return KINDS.index(thing["kind"]) if thing["kind"] in KINDS else -1


def _selected_by(thing: Object) -> str | None:
    """The service whose pods this NetworkPolicy selects; None for any other object."""
    selector = thing.get("spec", {}).get("podSelector", {}) if thing["kind"] == NETWORK_POLICY else {}
    name = selector.get("matchLabels", {}).get(OF_SERVICE)
    return None if name is None else str(name)


def _alone(service: Object, runtimes: set[str]) -> None:
    """Reduces it to one pod, without autoscaling or routes. runtimes: those that are renamed too."""
    annotations, predictor = service["metadata"]["annotations"], service["spec"]["predictor"]
    if AUTOSCALER in annotations:
        annotations[AUTOSCALER] = "none"
    mode = annotations.get(MODE, "Standard")
    labels = service["metadata"].setdefault("labels", {})
    labels[LOCAL["Knative" if mode in ("Knative", "Serverless") else "Standard"]] = "cluster-local"
    service["spec"].pop("canary", None)
    for field in (*SCALING, *OF_SEVERAL):
        predictor.pop(field, None)
    predictor["minReplicas"] = predictor["maxReplicas"] = 1
    model: dict[str, Any] = predictor["model"]
    if model.get("runtime") in runtimes:
        model["runtime"] += CANDIDATE


def candidates_left(cluster: Cluster, objects: list[Object]) -> list[Object]:
    """What is left of a candidate of these objects, as the cluster has it, in the order of applying."""
    names = [found | {"metadata": {"name": name_of(found) + CANDIDATE}} for found in objects if found["kind"] in KINDS]
    return live_of(cluster, sorted(names, key=_rank))


def live_of(cluster: Cluster, candidate: list[Object]) -> list[Object]:
    """The same objects as the cluster has them, without those that are missing or belong to no candidate."""
    live = [cluster.get(cluster.resource_of(thing), name_of(thing)) for thing in candidate]
    return [found for found in live if found is not None and CANDIDATE_OF in annotations_of(found)]


def own_of(cluster: Cluster, candidate: list[Object]) -> list[Object]:
    """Those of `live_of` that this run applied."""
    runs = {annotations_of(thing)[RUN] for thing in candidate}
    return [found for found in live_of(cluster, candidate) if annotations_of(found).get(RUN) in runs]


def age_of(live: Object) -> float:
    """In seconds, by the clocks of this machine and the API server; infinite if unknown."""
    made = live["metadata"].get("creationTimestamp")
    return (datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds() if made else math.inf


def check_free(cluster: Cluster, candidate: list[Object]) -> None:
    """Raises PipelineError if something else has the candidate's name."""
    for thing in candidate:
        live = cluster.get(cluster.resource_of(thing), name_of(thing))
        if live is not None and CANDIDATE_OF not in annotations_of(live):
            raise PipelineError(
                f"{title_of(thing)} already exists and is not a candidate of this tool, which needs that name "
                "for --golden: deploy without --golden, or remove it"
            )
