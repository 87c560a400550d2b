"""What hashicorp/helm and hashicorp/kubernetes require of each argument in terraform/kserve, from their own code.

Read at ecffae077 (helm, after 3.1.2) and 3a33fb6cc (kubernetes, after 3.2.1), the nearest public source to the
stand-ins' 3.3.0 and 3.4.0. ANY is for arguments that were looked up and have no validator.
"""

from __future__ import annotations

import re

from tests.terraform.validators import ANY, WHOLE, Check, Kind, length

# k8s.io/apimachinery/pkg/util/validation: IsQualifiedName, IsValidLabelValue, IsDNS1123Subdomain
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
NAME = r"(?=.{1,63}\Z)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
QUALIFIED_NAME = re.compile(rf"(?:(?=[^/]{{1,253}}/){SUBDOMAIN}/)?{NAME}")
LABEL_VALUE = re.compile(rf"(?:{NAME})?")

LABELS = Check(
    "labels that Kubernetes takes",
    lambda labels: all(QUALIFIED_NAME.fullmatch(key) and LABEL_VALUE.fullmatch(labels[key]) for key in labels),
)

METADATA = {
    "metadata": ANY,
    "metadata.labels": LABELS,
    "metadata.name": Check(
        "a DNS subdomain", lambda value: len(value) <= 253 and bool(re.fullmatch(SUBDOMAIN, value))
    ).but(conflicts=("metadata.generate_name",)),
}

IN_CLUSTER: dict[str, Kind] = {
    "helm_release": Kind(
        "helm/resource_helm_release.go",
        {
            "chart": ANY,
            "create_namespace": ANY,
            "name": length(1, 53),
            "namespace": ANY,
            "repository": ANY,
            "timeout": WHOLE,
            "values": ANY,  # chart_values.py
            "version": ANY,  # the chart's own, which a plan fetches: chart_values.py
        },
    ),
    "kubernetes_namespace_v1": Kind("kubernetes/schema_metadata.go: metadataSchema", METADATA),
}
