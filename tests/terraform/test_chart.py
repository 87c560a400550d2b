"""terraform/kserve/charts/knative-serving renders to what Knative's operator reads; needs helm."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

KSERVE = Path(__file__).resolve().parents[2] / "terraform" / "kserve"

SYSTEM = {"torchserve-alexnet/role": "system"}


def rendered(folder: Path, **values: object) -> dict[str, dict[str, Any]]:
    """kind → object, of the chart with these values."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed")
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    command: list[str | Path] = ["helm", "template", "knative-serving", KSERVE / "charts" / "knative-serving"]
    command += ["--namespace", "knative-serving", "--values", folder / "values.yaml"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {made["kind"]: made for made in yaml.safe_load_all(done.stdout) if made}


def test_the_values_are_those_that_terraform_sets() -> None:
    defaults = yaml.safe_load((KSERVE / "charts" / "knative-serving" / "values.yaml").read_text())
    release = (KSERVE / "knative.tf").read_text().partition('"knative_serving"')[2].partition("depends_on")[0]
    assert set(re.findall(r"^    (\w+) += local\.", release, re.MULTILINE)) == {"domain", "nodeSelector"}
    assert {"domain", "nodeSelector"} <= defaults.keys()


@pytest.mark.parametrize("domain", ["svc.cluster.local", "models.example.com"])
def test_the_domain_becomes_a_key_and_nothing_is_public(domain: str, tmp_path: Path) -> None:
    serving = rendered(tmp_path, domain=domain)["KnativeServing"]
    assert serving["metadata"] == {"name": "knative-serving", "namespace": "knative-serving"}
    assert serving["spec"]["config"]["domain"] == {domain: ""}
    assert serving["spec"]["config"]["features"] == {"kubernetes.podspec-tolerations": "enabled"}
    assert serving["spec"]["ingress"]["kourier"] == {"enabled": True, "service-type": "ClusterIP"}


def test_all_of_knative_and_the_job_run_on_system_nodes(tmp_path: Path) -> None:
    made = rendered(tmp_path, nodeSelector=SYSTEM)
    workloads = made["KnativeServing"]["spec"]["workloads"]
    assert {"activator", "webhook", "3scale-kourier-gateway"} <= {workload["name"] for workload in workloads}
    assert all(workload["nodeSelector"] == SYSTEM for workload in workloads)
    assert made["Job"]["spec"]["template"]["spec"]["nodeSelector"] == SYSTEM


def test_the_release_ends_when_knative_is_ready(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    job = made["Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == [
        "wait",
        "--for=condition=Ready",
        "knativeservings.operator.knative.dev/knative-serving",
    ]
    (timeout,) = re.findall(r"^  timeout = (\d+)$", (KSERVE / "kserve.tf").read_text(), re.MULTILINE)
    assert job["spec"]["activeDeadlineSeconds"] < int(timeout)
    assert made["Role"]["rules"] == [
        {"apiGroups": ["operator.knative.dev"], "resources": ["knativeservings"], "verbs": ["get", "list", "watch"]}
    ]
    assert made["RoleBinding"]["subjects"][0]["name"] == job["spec"]["template"]["spec"]["serviceAccountName"]
