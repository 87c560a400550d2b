"""The values that the charts of terraform/kserve accept, according to the charts and their programs.

Helm ignores a value that no template reads: a misspelt one changes nothing, without any message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.terraform.validators import Check, Values, matches, one_of


@dataclass(frozen=True)
class Chart:
    """A chart: `source` is where its values.yaml is, `version` the release that was read there."""

    source: str
    version: str
    values: Mapping[str, Check]
    # Which values become part of a pod, and where: `affinity`, `containers.securityContext`, …
    of_a_pod: Mapping[str, str]


DNS_LABEL = "(?=[^/]{1,63}(?:/|$))[a-z0-9]([-a-z0-9]*[a-z0-9])?"
TRUE_OR_FALSE = Check("true or false", lambda value: isinstance(value, bool))
TEXT = Check("text", lambda value: isinstance(value, str) and value != "")
# The charts add their own tag.
IMAGE = Check("an image without its tag", lambda value: isinstance(value, str) and ":" not in value.rpartition("/")[2])
OBJECT = Check("an object", lambda value: isinstance(value, dict))

CHARTS: dict[str, Chart] = {
    "cert-manager": Chart(
        "cert-manager/cert-manager: deploy/charts/cert-manager, values.yaml and values.schema.json",
        "v1.21.1",
        {"crds.enabled": TRUE_OR_FALSE, "global.leaderElection.namespace": TEXT, "global.nodeSelector": OBJECT},
        {"global.nodeSelector": "nodeSelector"},
    ),
    "kserve-crd": Chart("kserve/kserve: charts/kserve-crd, whose values.yaml is empty", "v0.20.0", {}, {}),
    "kserve-resources": Chart(
        "kserve/kserve: charts/kserve-resources; what its program takes: pkg/apis/serving/v1beta1/configmap.go",
        "v0.20.0",
        {
            "kserve.agent.image": IMAGE,
            # NewDeployConfig; RawDeployment and Serverless are old names of the first two
            "kserve.controller.deploymentMode": one_of("Standard", "Knative", "ModelMesh"),
            "kserve.controller.gateway.disableIngressCreation": TRUE_OR_FALSE,
            "kserve.controller.gateway.disableIstioVirtualHost": TRUE_OR_FALSE,
            "kserve.controller.gateway.domain": TEXT,
            "kserve.controller.gateway.domainTemplate": TEXT,
            "kserve.controller.gateway.ingressGateway.enableGatewayApi": TRUE_OR_FALSE,
            # validateIngressGateway: two DNS labels, as IsDNS1123Label of k8s.io/apimachinery has them
            "kserve.controller.gateway.ingressGateway.kserveGateway": matches(
                f"^{DNS_LABEL}/{DNS_LABEL}$", "NAMESPACE/NAME"
            ),
            "kserve.controller.image": IMAGE,
            "kserve.controller.nodeSelector": OBJECT,
            "kserve.router.image": IMAGE,
            "kserve.storage.containerSecurityContext": OBJECT,
            "kserve.storage.image": IMAGE,
        },
        {
            "kserve.controller.nodeSelector": "nodeSelector",
            "kserve.storage.containerSecurityContext": "containers.securityContext",
        },
    ),
    "knative-operator": Chart(
        "knative/operator: config/charts/knative-operator",
        "v1.21.1",
        {"knative_operator.knative_operator.affinity": OBJECT, "knative_operator.operator_webhook.affinity": OBJECT},
        {
            "knative_operator.knative_operator.affinity": "affinity",
            "knative_operator.operator_webhook.affinity": "affinity",
        },
    ),
    "./charts/knative-serving": Chart(
        "terraform/kserve/charts/knative-serving",
        "",
        {"domain": TEXT, "nodeSelector": OBJECT},
        {"nodeSelector": "nodeSelector"},
    ),
}


def chart_of(release: Values) -> tuple[str, str]:
    """Name and version of the chart of a helm_release; an address ends in /NAME-vVERSION.tgz."""
    name: str = release["chart"]
    if name.startswith("https://"):
        name, _, version = name.rpartition("/")[2].removesuffix(".tgz").rpartition("-")
        return name, version
    return name, release.get("version") or ""


def unread(values: Values, known: Mapping[str, Check], within: str = "") -> list[str]:
    """Paths of values that the chart does not read."""
    found = []
    for name, value in values.items():
        path = f"{within}{name}"
        if path in known:
            continue
        if isinstance(value, dict) and any(each.startswith(f"{path}.") for each in known):
            found += unread(value, known, f"{path}.")
        else:
            found.append(path)
    return found


# Fields of operator.knative.dev/v1beta1 KnativeServing that terraform/kserve/charts/knative-serving sets. Source, at
# knative-v1.21.1: knative/operator, config/crd/bases/operator.knative.dev_knativeservings.yaml.
STRING = {"type": "string"}
KNATIVE_SERVING = {
    "type": "object",
    "properties": {
        "ingress": {
            "type": "object",
            "properties": {
                "kourier": {
                    "type": "object",
                    "properties": {
                        "enabled": {"type": "boolean"},
                        "service-type": STRING,
                        "service-load-balancer-ip": STRING,
                        "bootstrap-configmap": STRING,
                        "http-port": {"type": "integer"},
                        "https-port": {"type": "integer"},
                    },
                }
            },
        },
        "config": {
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": STRING},
        },
        "workloads": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": STRING, "nodeSelector": {"type": "object", "additionalProperties": STRING}},
            },
        },
    },
}
