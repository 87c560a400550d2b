"""trivy scans the Deployment that KServe creates from a rendering; it does not understand KServe's own kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.renderings import MANIFESTS, Object, merge, one, pod_labels, render

pytestmark = pytest.mark.slow

OVERLAYS = sorted(found.parent.name for found in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))
OF_ITS_OWN = [name for name in OVERLAYS if name != "stock-runtime"]  # KServe's runtime is not in the rendering

# Knative refuses a pod's securityContext (KSV-0118); the container's has everything that `restricted` requires.
EXPLAINED = {"knative": ["KSV-0118"]}

# Fields of the InferenceService's model, which KServe merges into the runtime's container.
NOT_A_CONTAINERS = {"modelFormat", "runtime", "protocolVersion", "storageUri"}


@pytest.fixture(scope="module")
def trivy() -> Path:
    found = Path(sys.executable).with_name("trivy")
    if not found.exists():
        pytest.skip("trivy is not installed: its package has a wheel for Linux on x86-64 alone")
    return found


def deployment(objects: list[Object]) -> Object:
    runtime, service = one(objects, "ServingRuntime"), one(objects, "InferenceService")
    predictor = service["spec"]["predictor"]
    model = {name: value for name, value in predictor["model"].items() if name not in NOT_A_CONTAINERS}
    pod = {
        "serviceAccountName": predictor["serviceAccountName"],
        "automountServiceAccountToken": predictor["automountServiceAccountToken"],
        "securityContext": predictor.get("securityContext", {}),
        "containers": [merge(runtime["spec"]["containers"][0], model)],
        "volumes": runtime["spec"]["volumes"],
    }
    labels = pod_labels(objects)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "alexnet-predictor", "namespace": "models", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def findings(trivy: Path, scratch: Path, *objects: Object) -> list[str]:
    """The IDs of its high and critical findings."""
    (scratch / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    command: list[str | Path] = [trivy, "config", "--quiet", "--skip-check-update", "--skip-version-check"]
    command += ["--format", "json", "--severity", "HIGH,CRITICAL", "--cache-dir", scratch / "cache"]
    command += [scratch / "objects.yaml"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    results: list[dict[str, Any]] = json.loads(done.stdout)["Results"]
    assert results[0]["MisconfSummary"]["Successes"] > 0  # it has recognised the file
    return sorted(found["ID"] for result in results for found in result.get("Misconfigurations", []))


@pytest.mark.parametrize("overlay", OF_ITS_OWN)
def test_nothing_high_is_found(overlay: str, trivy: Path, tmp_path: Path) -> None:
    objects = render(MANIFESTS / "overlays" / overlay)
    assert findings(trivy, tmp_path, deployment(objects), *objects) == EXPLAINED.get(overlay, [])


def test_a_finding_would_be_noticed(trivy: Path, tmp_path: Path) -> None:
    broken = deployment(render(MANIFESTS / "overlays" / "standard"))
    broken["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert "KSV-0017" in findings(trivy, tmp_path, broken)
