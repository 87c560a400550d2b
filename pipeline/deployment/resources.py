"""Kinds of objects by their names and paths in the API server."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pipeline.deployment.objects import Object, name_of


@dataclass(frozen=True)
class Resource:
    """A kind by the API server's name for it: `inferenceservices` of `serving.kserve.io/v1beta1`."""

    api_version: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def name(self) -> str:
        """As in kubectl and error messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "") -> str:
        inside = f"/namespaces/{quote(namespace)}" if self.namespaced else ""
        return f"{path_of(self.api_version)}{inside}/{self.plural}" + (f"/{quote(name)}" if name else "")


def path_of(api_version: str) -> str:
    """The core API, `v1`, has another path than API groups."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


INFERENCE_SERVICES = Resource("serving.kserve.io/v1beta1", "inferenceservices", True)
SERVING_RUNTIMES = Resource("serving.kserve.io/v1alpha1", "servingruntimes", True)
DEPLOYMENTS = Resource("apps/v1", "deployments", True)
PODS = Resource("v1", "pods", True)
EVENTS = Resource("v1", "events", True)
SERVICES = Resource("v1", "services", True)
CONFIG_MAPS = Resource("v1", "configmaps", True)
NAMESPACES = Resource("v1", "namespaces", False)

OF_SERVICE = "serving.kserve.io/inferenceservice"  # a label of its pods


def pods_of(service: Object) -> dict[str, str]:
    """The query for what KServe creates from an InferenceService: its pods, and its Deployments."""
    return {"labelSelector": f"{OF_SERVICE}={name_of(service)}"}
