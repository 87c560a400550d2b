"""A Kubernetes object as JSON, and what is often read from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

INFERENCE_SERVICE = "InferenceService"
SERVING_RUNTIME = "ServingRuntime"
CONTAINER = "kserve-container"  # KServe's name for the serving container
MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
ON_KNATIVE = ("Knative", "Serverless")  # its names from KServe 0.16 on, and before


@dataclass(frozen=True)
class Condition:
    """A controller's report about an object. `status`: `True`, `False` or `Unknown`, as text."""

    type: str
    status: str
    reason: str
    message: str


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def title_of(thing: Object) -> str:
    """For messages: `InferenceService alexnet`."""
    return f"{thing['kind']} {name_of(thing)}"


def annotations_of(thing: Object) -> dict[str, str]:
    annotations: dict[str, str] = thing.get("metadata", {}).get("annotations", {})
    return annotations


def is_on_knative(service: Object) -> bool:
    """According to its status or, before it has one, its annotation."""
    mode = service.get("status", {}).get("deploymentMode") or annotations_of(service).get(MODE)
    return mode in ON_KNATIVE


def conditions_of(thing: Object) -> list[Condition]:
    return [
        Condition(found["type"], found["status"], found.get("reason") or "", found.get("message") or "")
        for found in thing.get("status", {}).get("conditions", [])
    ]


def lacking(thing: Object) -> list[Condition]:
    """The conditions that are not met. `Stopped` is left out: it is false when all is well."""
    return [found for found in conditions_of(thing) if found.status != "True" and found.type != "Stopped"]


def is_ready(thing: Object) -> bool:
    return any(found.type == "Ready" and found.status == "True" for found in conditions_of(thing))


def service_in(objects: list[Object]) -> Object | None:
    """The InferenceService, if there is one."""
    return next((found for found in objects if found["kind"] == INFERENCE_SERVICE), None)


def service_of(objects: list[Object]) -> Object:
    """The InferenceService; there must be one."""
    service = service_in(objects)
    assert service is not None
    return service


def storage_uri_of(service: Object) -> str | None:
    uri = service.get("spec", {}).get("predictor", {}).get("model", {}).get("storageUri")
    return None if uri is None else str(uri)


def server_containers(objects: list[Object]) -> list[Object]:
    """The ServingRuntime's serving containers; none if the runtime is not one of these objects."""
    runtimes = [found for found in objects if found["kind"] == SERVING_RUNTIME]
    containers = [found for runtime in runtimes for found in runtime["spec"].get("containers", [])]
    return [found for found in containers if found["name"] == CONTAINER]


def image_of(objects: list[Object]) -> str | None:
    """The server container's image; None if the runtime is not one of these objects."""
    return next((str(found["image"]) for found in server_containers(objects) if "image" in found), None)
