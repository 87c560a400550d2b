"""The overlays are written for KServe 0.20 and 0.21: how they have to change for other versions.

Taken from the CRDs, webhooks and controllers of v0.15.0 to v0.20.0 of https://github.com/kserve/kserve, and for 0.21
from the models of its SDK; kserve/README.md has the table.
"""

from __future__ import annotations

import copy

from pipeline.deployment.errors import NotInKServe
from pipeline.deployment.objects import AUTOSCALER, MODE, Object, annotations_of, service_of

KServeVersion = tuple[int, ...]

OLDEST, NEWEST = (0, 15), (0, 21)  # supported
SUPPORTED = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
UNKNOWN = (0, 20)  # assumed for an unknown version

NEW_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}  # from 0.16 on
OLD_MODES = {new: old for old, new in NEW_MODES.items()}


def dotted(version: KServeVersion) -> str:
    return ".".join(map(str, version))


def fitted(objects: list[Object], version: KServeVersion | None) -> list[Object]:
    """The same objects as this version of KServe accepts them; None: an unknown version.

    Raises NotInKServe if it lacks something that they need.
    """
    version = version or UNKNOWN
    objects = copy.deepcopy(objects)
    service = service_of(objects)
    predictor = service["spec"]["predictor"]
    if version < (0, 20) and "storageContainerName" in predictor:  # KServe would choose any that fits, at random
        raise NotInKServe("spec.predictor.storageContainerName", "0.20", dotted(version))
    # 0.16 and later refuse a deploymentStrategy with the mode's old name, 0.15 with the new one.
    modes = OLD_MODES if version < (0, 16) else NEW_MODES
    if mode := modes.get(annotations_of(service).get(MODE, "")):
        annotations_of(service)[MODE] = mode
    if version < (0, 16):  # the overlays only repeat Kubernetes' defaults there
        predictor.get("autoScaling", {}).pop("behavior", None)
    if version < (0, 15, 1) and annotations_of(service).get(AUTOSCALER) == "none":
        # An autoscaler with a fixed number of pods, which therefore needs no metrics.
        annotations_of(service)[AUTOSCALER] = "hpa"
        predictor["maxReplicas"] = predictor.get("minReplicas", 1)
    return objects
