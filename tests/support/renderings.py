"""The manifests under kserve/, as rendered by kubectl, and the faults of a rendering.

A fault is a sentence that names the object. Rules that only a live cluster enforces, through KServe's and Knative's
webhooks, are repeated here as far as the objects allow.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.support.kserve_crds import Schemas
from tests.support.kserve_models import losses
from tests.support.structural_schema import Schema, object_errors

Object = dict[str, Any]

CHECKOUT = Path(__file__).resolve().parents[2]
MANIFESTS = CHECKOUT / "kserve"
OTHER_KINDS = CHECKOUT / "tests" / "kserve" / "other_kinds.yaml"

KUBERNETES = ("1.32", "1.37")  # the oldest that KServe 0.20 supports, and the newest known
KSERVE_RUNTIMES = {"kserve-torchserve"}
LABELS = {"app.kubernetes.io/name": "alexnet", "app.kubernetes.io/part-of": "torchserve-alexnet"}
HEALTH_CHECK = "HealthCheckPolicy"
GUARD = "GCPBackendPolicy"
CERTIFICATES = "networking.gke.io/certmap"
CLUSTER_KINDS = {"Namespace", "ClusterStorageContainer"}
MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# What can be chosen, and which choices go together, according to the components' READMEs.
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir() if path.is_dir())
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())

ON_KNATIVE = {"scale-to-zero", "canary-knative"}
ON_A_GATEWAY = {"canary-standard", "public-endpoint", "public-endpoint-iap"}
ON_STANDARD = {
    "autoscaling-hpa",
    "autoscaling-keda",
    "canary-standard",
    "disruption-budget",
    "network-policy",
    "network-policy-offline",
    "network-policy-private-google",
    "public-endpoint",
    "public-endpoint-iap",
    "public-gateway",
}
APART = [
    {"autoscaling-hpa", "autoscaling-keda"},
    {"public-endpoint", "public-endpoint-iap"},
    {"public-endpoint", "stock-runtime"},  # it checks no keys
    {"local-archive", "restricted-namespace"},
    {"network-policy-offline", "network-policy-private-google"},
    {"identity", "signature"},
    *(
        {name, "stock-runtime"} for name in ("identity", "signature", "api-keys", "jwt", "rate-limit", "grpc")
    ),  # its image checks none
]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def go_together(components: tuple[str, ...]) -> bool:
    chosen = set(components)
    if chosen & ON_STANDARD and chosen & (ON_KNATIVE | {"knative"}):
        return False
    return not any(pair <= chosen for pair in APART)


def in_order(components: tuple[str, ...]) -> tuple[str, ...]:
    """With their dependencies, as in the READMEs: knative and public-gateway first, restricted-namespace last."""
    needed = {"knative"} if set(components) & ON_KNATIVE else set()
    needed |= {"public-gateway"} if set(components) & ON_A_GATEWAY else set()
    needed |= {"api-keys"} if "public-endpoint" in components else set()
    needed |= {"network-policy"} if any(name.startswith("network-policy-") for name in components) else set()

    def place(name: str) -> tuple[bool, bool, str]:
        return name not in ("knative", "public-gateway"), name == "restricted-namespace", name

    return tuple(sorted({*components, *needed}, key=place))


def render(directory: Path) -> list[Object]:
    """What `kubectl apply -k` would send. Raises CalledProcessError."""
    rendered = subprocess.run(
        ["kubectl", "kustomize", directory], check=True, capture_output=True, text=True, timeout=60
    )
    return list(yaml.load_all(rendered.stdout, yaml.CSafeLoader))


def render_with(components: tuple[str, ...], scratch: Path) -> list[Object]:
    """The base with these components, through a kustomization in `scratch`."""
    root = os.path.relpath(MANIFESTS, scratch.resolve())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{root}/base"],
        "components": [f"{root}/components/{name}" for name in components],
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(scratch)


def faults(objects: list[Object]) -> list[str]:
    """All faults that can be found without KServe's CRDs: of each object and, if these are well-formed, of all."""
    found = [fault for object_ in objects for fault in object_faults(json.dumps(object_))]
    if not found:
        for check in (reference_faults, selector_faults, webhook_faults, pod_security_faults):
            found += check(objects)
    return found


@cache  # most renderings share most of their objects
def object_faults(text: str) -> list[str]:
    """The faults of one object, given as JSON."""
    object_ = json.loads(text)
    kind = object_["kind"]
    checks = (losses, kind_faults, metadata_faults, image_faults)
    return [f"{kind}: {fault.removeprefix(kind)}" for check in checks for fault in check(object_)]


def crd_faults(objects: list[Object], schemas: Schemas) -> list[str]:
    """What the API server refuses in KServe's kinds."""
    return [
        fault
        for object_ in objects
        if (kind := f"{object_['apiVersion']} {object_['kind']}") in schemas
        for fault in object_errors(object_, schemas[kind])
    ]


@cache
def other_schemas() -> dict[str, Schema]:
    every = {"apiVersion": "string", "kind": "string", "metadata": {}}
    kinds = yaml.safe_load(OTHER_KINDS.read_text())
    return {kind: _schema(every | fields) for kind, fields in kinds.items()}


def _schema(short: Any) -> Schema:
    """The schema described by a line of other_kinds.yaml."""
    if isinstance(short, dict):
        fields = {name.removesuffix("?"): _schema(value) for name, value in short.items()}
        required = [name for name in short if not name.endswith("?")]
        return {"type": "object", "properties": fields, "required": required}
    if isinstance(short, list):
        return {"type": "array", "items": _schema(short[0])}
    if short == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    if short == "strings":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if "|" in short:
        return {"type": "string", "enum": short.split(" | ")}
    return {"type": short}


def kind_faults(object_: Object) -> Iterator[str]:
    kind = f"{object_['apiVersion']} {object_['kind']}"
    if kind in other_schemas():
        yield from object_errors(object_, other_schemas()[kind])
    elif not object_["apiVersion"].startswith("serving.kserve.io/"):
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(object_, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f".{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"
            except kubernetes_validate.SchemaNotFoundError:
                yield f": nothing here knows {kind}"


def metadata_faults(object_: Object) -> Iterator[str]:
    labels = object_["metadata"].get("labels", {})
    if not LABELS.items() <= labels.items():
        yield ".metadata.labels: should have the project's two"
    if object_["kind"] in CLUSTER_KINDS and "namespace" in object_["metadata"]:
        yield ".metadata.namespace: this kind is in none"


def image_faults(value: Any) -> Iterator[str]:
    """Every `image` at any depth."""
    if isinstance(value, dict):
        image = value.get("image")
        if isinstance(image, str) and "@sha256:" not in image:
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f": the image {image} has no version"
        for child in value.values():
            yield from image_faults(child)
    elif isinstance(value, list):
        for child in value:
            yield from image_faults(child)


def reference_faults(objects: list[Object]) -> Iterator[str]:
    def named(kind: str) -> set[str]:
        return {object_["metadata"]["name"] for object_ in objects if object_["kind"] == kind}

    made_by_kserve = {made for name in named("InferenceService") for made in (name, f"{name}-predictor")}
    next_versions = {f"{name}-next-predictor" for name in named("InferenceService")}  # of canary-standard
    services = named("Service") | {f"{name}-predictor" for name in named("InferenceService")} | next_versions
    for object_ in objects:
        spec, kind = object_.get("spec", {}), object_["kind"]
        if kind == "InferenceService":
            predictor = spec["predictor"]
            runtime = predictor["model"].get("runtime")
            if runtime not in named("ServingRuntime") | KSERVE_RUNTIMES:
                yield f"{kind}: there is no runtime {runtime}"
            account = predictor.get("serviceAccountName")
            if account not in named("ServiceAccount"):
                yield f"{kind}: there is no service account {account}"
            uri = predictor["model"]["storageUri"]
            container = predictor.get("storageContainerName")
            if container and container not in named("ClusterStorageContainer"):
                yield f"{kind}: there is no ClusterStorageContainer {container}"
            elif container and not uri.startswith(storage_prefixes(objects)):
                yield f"{kind}: the ClusterStorageContainer {container} does not take {uri}"
            scheme, _, rest = uri.partition("://")
            if scheme == "pvc" and rest.partition("/")[0] not in named("PersistentVolumeClaim"):
                yield f"{kind}: there is no volume claim {rest}"
        elif kind == "HTTPRoute":
            if object_["metadata"]["name"] in made_by_kserve:
                yield f"{kind}: KServe overwrites the route {object_['metadata']['name']} with its own"
            listeners = {
                (gateway["metadata"]["name"], listener["name"])
                for gateway in objects
                if gateway["kind"] == "Gateway"
                for listener in gateway["spec"]["listeners"]
            }
            for parent in spec["parentRefs"]:
                if (parent["name"], parent["sectionName"]) not in listeners:
                    yield f"{kind}: there is no listener {parent['name']}/{parent['sectionName']}"
            for backend in (backend for rule in spec["rules"] for backend in rule["backendRefs"]):
                if backend["name"] not in services or backend["port"] != 80:
                    yield f"{kind}: there is no Service {backend['name']} with port {backend['port']}"
                checked = [found["spec"]["targetRef"]["name"] for found in objects if found["kind"] == HEALTH_CHECK]
                if checked and backend["name"] not in checked:
                    yield f"{kind}: GKE asks no health of {backend['name']}"
                guarded = [found["spec"]["targetRef"]["name"] for found in objects if found["kind"] == GUARD]
                if guarded and backend["name"] not in guarded:
                    yield f"{kind}: anybody may ask {backend['name']}"
            for rule in spec["rules"]:
                weights = [backend.get("weight", 1) for backend in rule["backendRefs"]]
                if len(weights) > 1 and sum(weights) != 100:
                    yield f"{kind}: the weights {weights} are no hundredths"
        elif kind in (HEALTH_CHECK, GUARD) and spec["targetRef"]["name"] not in services:
            yield f"{kind}: there is no Service {spec['targetRef']['name']}"
        elif kind == "GCPGatewayPolicy" and spec["targetRef"]["name"] not in named("Gateway"):
            yield f"{kind}: there is no Gateway {spec['targetRef']['name']}"
        elif kind == "Gateway":
            # GKE takes either: https://cloud.google.com/kubernetes-engine/docs/how-to/secure-gateway
            map_ = CERTIFICATES in object_["metadata"].get("annotations", {})
            if any(map_ == bool(listener.get("tls")) for listener in spec["listeners"]):
                yield f"{kind}: has its certificate from a Secret or from a map, one of the two"


def storage_prefixes(objects: list[Object]) -> tuple[str, ...]:
    formats = one(objects, "ClusterStorageContainer")["spec"]["supportedUriFormats"]
    return tuple(format_["prefix"] for format_ in formats)


def selector_faults(objects: list[Object]) -> Iterator[str]:
    """Every selector must match the pods that KServe makes, or an existing Service."""
    for object_ in objects:
        spec, kind = object_.get("spec", {}), object_["kind"]
        if kind == "ServiceMonitor":
            wanted = spec["selector"]["matchLabels"].items()
            ports = [
                port["name"]
                for service in objects
                if service["kind"] == "Service" and wanted <= service["metadata"]["labels"].items()
                for port in service["spec"]["ports"]
            ]
            if ports != [endpoint["port"] for endpoint in spec["endpoints"]]:
                yield f"{kind}: finds the ports {ports}"
            continue
        selector = spec.get("podSelector") or spec.get("selector") or {}
        selector = selector.get("matchLabels", selector)
        if selector and not selector.items() <= pod_labels(objects).items():
            yield f"{kind}: its selector finds no pod of the service"


def pod_labels(objects: list[Object]) -> dict[str, str]:
    """As KServe 0.20 labels the pods of a predictor: buildObjectMeta in its components/predictor.go."""
    service = one(objects, "InferenceService")
    labels: dict[str, str] = service["metadata"]["labels"]
    name = service["metadata"]["name"]
    return labels | {"serving.kserve.io/inferenceservice": name, "component": "predictor"}


def webhook_faults(objects: list[Object]) -> Iterator[str]:
    """Refused by KServe's webhook (inference_service_validation.go) or Knative's, or silently ignored."""
    service = one(objects, "InferenceService")
    annotations, predictor = service["metadata"]["annotations"], service["spec"]["predictor"]
    mode, autoscaler = annotations.get(MODE), annotations.get(AUTOSCALER)
    if predictor.get("minReplicas", 1) > predictor.get("maxReplicas", predictor.get("minReplicas", 1)):
        yield "InferenceService: minReplicas is above maxReplicas"
    if "name" in predictor["model"]:
        yield "InferenceService: model.name is refused"
    if mode == "Standard":
        if autoscaler == "none" and predictor.keys() & {"maxReplicas", "scaleMetric", "scaleTarget", "autoScaling"}:
            yield "InferenceService: scales, and has no autoscaler"
        if autoscaler == "hpa" and (
            "autoScaling" in predictor or predictor.get("scaleMetric") not in ("cpu", "memory")
        ):
            yield "InferenceService: the HorizontalPodAutoscaler takes cpu and memory alone"
        if autoscaler == "keda" and ("scaleMetric" in predictor or not predictor.get("autoScaling", {}).get("metrics")):
            yield "InferenceService: KEDA wants autoScaling.metrics, and no scaleMetric"
        if predictor["minReplicas"] < 1:
            yield "InferenceService: Standard mode keeps one replica"
        if "canaryTrafficPercent" in predictor:
            yield "InferenceService: Standard mode ignores canaryTrafficPercent"
    elif mode == "Knative":
        unfit = {"deploymentStrategy", "terminationGracePeriodSeconds", "securityContext"} & predictor.keys()
        if unfit or autoscaler:
            yield f"InferenceService: Knative mode refuses {', '.join(sorted(unfit)) or 'an autoscaler'}"
        runtimes = [found for found in objects if found["kind"] == "ServingRuntime"]
        for variable in (each for found in runtimes for each in found["spec"]["containers"][0].get("env", [])):
            if "fieldRef" in variable.get("valueFrom", {}):
                yield f"ServingRuntime: Knative refuses a fieldRef ({variable['name']})"
        if predictor.get("scaleMetric", "concurrency") not in ("concurrency", "rps"):
            yield "InferenceService: Knative scales by concurrency or rps"
    else:
        yield f"InferenceService: {MODE} should be Standard or Knative"
    if "canary" in service["spec"]:
        # v0.20.0, pkg/controller/v1beta1/inferenceservice: reconcilers/ingress/httproute_reconciler.go has no weights,
        # and components/predictor.go (reconcileRawDeployment) takes a canary's replicas from the stable version's.
        yield "InferenceService: no release divides requests by spec.canary, and it takes replicas away"


def pod_security_faults(objects: list[Object]) -> Iterator[str]:
    """The Pod Security Standard `restricted`, for every container that is known here."""
    for object_ in objects:
        spec, kind = object_.get("spec", {}), object_["kind"]
        if kind == "ServingRuntime":
            merged = merge(spec["containers"][0], one(objects, "InferenceService")["spec"]["predictor"]["model"])
            containers, volumes = [merged, *spec["containers"][1:]], spec.get("volumes", [])
        elif kind == "ClusterStorageContainer":
            containers, volumes = [spec["container"]], []
        elif kind == "Pod":
            pod = {"securityContext": spec.get("securityContext", {})}
            containers, volumes = [merge(pod, container) for container in spec["containers"]], spec.get("volumes", [])
        else:
            continue
        for container in containers:
            context = container.get("securityContext", {})
            for field, wanted in RESTRICTED.items():
                if context.get(field) != wanted:
                    yield f"{kind}: securityContext.{field} of {container['name']} is not as `restricted` has it"
            if context.get("privileged"):
                yield f"{kind}: {container['name']} is privileged"
            if not context.get("runAsUser"):
                yield f"{kind}: {container['name']} should have a user of its own"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{kind}: {container['name']} takes a port of the node"
        for volume in volumes:
            if not volume.keys() - {"name"} <= VOLUMES:
                yield f"{kind}: the volume {volume['name']} is of a kind that `restricted` refuses"


def merge(below: Object, above: Object) -> Object:
    """Merges two containers like KServe merges a runtime's with the service's: by key, with arguments concatenated."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        elif name == "args":
            merged[name] = [*merged.get(name, []), *value]
        else:
            merged[name] = value
    return merged


def one(objects: list[Object], kind: str) -> Object:
    """Raises ValueError unless there is exactly one."""
    (found,) = (object_ for object_ in objects if object_["kind"] == kind)
    return found
