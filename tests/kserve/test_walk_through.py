"""kserve/README.md can be followed, and KServe accepts its settings and those of the overlay kind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.walks import CHECKOUT, commands, refused_by_gcloud, walked

PAGE = CHECKOUT / "kserve" / "README.md"
TITLE = "From an empty project to a prediction, and back"
KIND = CHECKOUT / "kserve" / "overlays" / "kind" / "README.md"

ANSWERS = """
"make version"*) echo 1.2.3 ;;
"gcloud projects describe the-project --format value(projectNumber)"*) echo 12345 ;;
"publish.sh gs://the-project-models/alexnet"*) echo gs://the-project-models/alexnet/v ;;
"""


def test_the_page_can_be_followed_from_top_to_bottom(tmp_path: Path) -> None:
    script = commands(PAGE, TITLE).replace("PROJECT=my-project", "PROJECT=the-project")
    record = walked(tmp_path, script, {"gcloud", "kubectl", "make"}, ANSWERS)
    image = "europe-west4-docker.pkg.dev/the-project/alexnet/alexnet-torchserve:1.2.3"
    pool = "projects/12345/locations/global/workloadIdentityPools/the-project.svc.id.goog"
    wanted = [
        "gcloud auth login",
        "gcloud config set project the-project",
        "gcloud auth application-default login",
        "gcloud auth application-default set-quota-project the-project",
        "gcloud container clusters get-credentials alexnet --location europe-west4-a",
        "kubectl rollout restart deployment/kserve-controller-manager --namespace kserve",
        "gcloud storage buckets add-iam-policy-binding gs://the-project-models --role roles/storage.objectViewer"
        f" --member principal://iam.googleapis.com/{pool}/subject/ns/default/sa/alexnet",
        f"gcloud builds submit --config kserve/runtime/cloudbuild.yaml --substitutions _IMAGE={image} .",
        f"deploy.sh --storage-uri gs://the-project-models/alexnet/v --image {image}",
        "deploy.sh --delete",
        "gcloud container clusters delete alexnet --location europe-west4-a",
    ]
    assert [line for line in record if line in wanted] == wanted
    if shutil.which("gcloud"):
        assert refused_by_gcloud(record, tmp_path) == {}


@pytest.fixture(params=[PAGE, KIND], ids=["the walk-through", "kind"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, dict[str, object]]:
    """KServe's ConfigMap after kubectl applied the page's patch to one that has other settings too."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    page = "".join(line[4:] + "\n" for line in request.param.read_text().splitlines() if line.startswith("    "))
    (patch,) = re.findall(r"^kubectl patch configmap inferenceservice-config .*? --patch '(.*?)'$", page, re.M | re.S)
    before = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {"deploy": "{}", "ingress": '{"ingressClassName": "istio"}', "storageInitializer": '{"image": "a:1"}'},
    }
    (tmp_path / "before.yaml").write_text(yaml.safe_dump(before))
    command: list[str | Path] = [
        "kubectl",
        "patch",
        "--local",
        "--filename",
        tmp_path / "before.yaml",
        "--type",
        "merge",
    ]
    done = subprocess.run(
        [*command, "--patch", patch, "--output", "json"], check=True, capture_output=True, text=True, timeout=60
    )
    return {name: json.loads(value) for name, value in json.loads(done.stdout)["data"].items()}


def test_kserve_accepts_its_settings(settings: dict[str, dict[str, object]]) -> None:
    """The fields that KServe 0.15 to 0.20 know: pkg/apis/serving/v1beta1/configmap.go."""
    assert settings["deploy"] == {"defaultDeploymentMode": "Standard"}
    assert settings["ingress"] == {
        "disableIstioVirtualHost": True,  # otherwise every service has an Event about Istio's missing CRD
        "disableIngressCreation": True,  # otherwise there is an Ingress of the class istio, which nothing serves
        "ingressDomain": "svc.cluster.local",
        "domainTemplate": "{{ .Name }}-predictor.{{ .Namespace }}.{{ .IngressDomain }}",
        "ingressGateway": "knative-serving/knative-ingress-gateway",  # not used, but without it nothing is reconciled
    }
    assert settings["storageInitializer"] == {"image": "a:1"}


def test_the_url_is_the_services_in_the_cluster(settings: dict[str, dict[str, object]]) -> None:
    ingress = settings["ingress"]
    fields = {"Name": "alexnet", "Namespace": "default", "IngressDomain": str(ingress["ingressDomain"])}
    url = re.sub(r"\{\{ \.(\w+) \}\}", lambda field: fields[field[1]], str(ingress["domainTemplate"]))
    assert url == "alexnet-predictor.default.svc.cluster.local"


def test_terraform_sets_the_same(settings: dict[str, dict[str, object]]) -> None:
    chart = (CHECKOUT / "terraform" / "kserve" / "kserve.tf").read_text()
    ingress = settings["ingress"]
    assert f'"{ingress["ingressDomain"]}"' in chart
    assert f'"{ingress["domainTemplate"]}"' in chart
    assert "disableIstioVirtualHost = true" in chart
