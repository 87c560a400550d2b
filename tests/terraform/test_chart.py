"""terraform/kserve/charts/knative-serving renders to what Knative's operator reads, with helm where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

KSERVE = Path(__file__).resolve().parents[2] / "terraform" / "kserve"


@pytest.mark.parametrize("domain", ["svc.cluster.local", "models.example.com"])
def test_the_domain_becomes_a_key_and_nothing_is_public(domain: str, tmp_path: Path) -> None:
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed")
    [name] = re.findall(r"^    (\w+) = local\.domain$", (KSERVE / "knative.tf").read_text(), re.MULTILINE)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({name: domain}))
    command: list[str | Path] = ["helm", "template", "knative-serving", KSERVE / "charts" / "knative-serving"]
    command += ["--namespace", "knative-serving", "--values", tmp_path / "values.yaml"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    rendered = yaml.safe_load(done.stdout)
    assert rendered["kind"] == "KnativeServing"
    assert rendered["metadata"] == {"name": "knative-serving", "namespace": "knative-serving"}
    assert rendered["spec"]["config"]["domain"] == {domain: ""}
    assert rendered["spec"]["ingress"]["kourier"] == {"enabled": True, "service-type": "ClusterIP"}
