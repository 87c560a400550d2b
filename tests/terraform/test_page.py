"""terraform/README.md can be followed: its commands, in one shell, with a stand-in for each program that they call; and
real programs know them, where they are installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.walks import commands, refused_by_gcloud, section, walked

CHECKOUT = Path(__file__).resolve().parents[2]
OUTPUTS = (CHECKOUT / "terraform" / "cluster" / "outputs.tf").read_text()


PAGE = CHECKOUT / "terraform" / "README.md"
THERE, BACK = "From an empty project to a prediction", "Back to nothing"
PROGRAMS = {"gcloud", "terraform", "kubectl", "docker", "make", "sleep"}

# The output of the programs that the page calls. One API is not ready at its first call.
LOGIN = (
    "gcloud container clusters get-credentials alexnet --location europe-west4-b --project the-project --dns-endpoint"
)
ANSWERS = rf"""
"gcloud config get account"*) echo me@example.org ;;
"gcloud artifacts repositories list --quiet"*) [ -e "$RECORD.awake" ] || {{ touch "$RECORD.awake"; exit 1; }} ;;
"gcloud compute network-endpoint-groups list --filter=network"*) echo https://c/zones/z/networkEndpointGroups/k8s1-a ;;
"gcloud compute firewall-rules list --filter=network"*) printf '%s\n' https://c/k8s-a https://c/k8s-b ;;
"terraform -chdir=terraform/state output -raw bucket_name"*) echo the-project-terraform ;;
"terraform -chdir=terraform/cluster output -raw get_credentials"*) echo {LOGIN} ;;
"environment.sh"*)
  printf "export %s='%s'\n" PROJECT the-project REGION r NAMESPACE ns BUCKET b IMAGE i:1 BUILDER projects/p/x
  printf "export %s='%s'\n" ENVIRONMENT "$1" TF_DATA_DIR ".terraform/$1" STATE the-project-terraform ;;
"publish.sh gs://b/alexnet"*) echo gs://b/alexnet/v ;;
"""


def fences(title: str) -> list[str]:
    """Commands that replace a block of the page, or are only needed sometimes."""
    return re.findall(r"^```sh\n(.*?)^```$", section(PAGE, title), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The page's commands, there and back."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "terraform" / "environments").mkdir(parents=True)
    for example in (CHECKOUT / "terraform" / "environments").glob("*.example"):
        shutil.copy(example, folder / "terraform" / "environments")
    there = commands(PAGE, THERE).replace("PROJECT=my-project", "PROJECT=the-project")
    return folder, walked(folder, f"{there}\n{commands(PAGE, BACK)}", PROGRAMS, ANSWERS)


@pytest.fixture(scope="module")
def asides(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The calls of the page's fences, each run in its own shell."""
    known = "PROJECT=the-project REGION=r IMAGE=i:1\n"
    return [
        walked(tmp_path_factory.mktemp("aside"), known + fence, PROGRAMS, ANSWERS)
        for title in (THERE, BACK)
        for fence in fences(title)
    ]


def test_the_page_can_be_followed_from_top_to_bottom(walk: tuple[Path, list[str]]) -> None:
    _, record = walk
    values, state = "-var-file=../environments/dev.tfvars", "-backend-config=bucket=the-project-terraform"
    unprotected = "-var deletion_protection=false"
    everywhere = "--all --all-namespaces"
    wanted = [
        "gcloud auth login",
        "gcloud config set project the-project",
        "gcloud auth application-default login",
        "gcloud auth application-default set-quota-project the-project",
        "terraform -chdir=terraform/state apply -var project_id=the-project",
        f"terraform -chdir=terraform/cluster init {state} -backend-config=prefix=dev/cluster",
        f"terraform -chdir=terraform/cluster apply {values}",
        "environment.sh dev",
        LOGIN,
        f"terraform -chdir=terraform/kserve init {state} -backend-config=prefix=dev/kserve",
        "terraform -chdir=terraform/kserve apply -var state_bucket=the-project-terraform -var environment=dev",
        "gcloud builds submit --config kserve/runtime/cloudbuild.yaml --substitutions _IMAGE=i:1"
        " --service-account projects/p/x --gcs-source-staging-dir gs://b/.builds .",
        "deploy.sh --namespace ns --image i:1 --storage-uri gs://b/alexnet/v",
        "kubectl get inferenceservice --namespace ns",
        "environment.sh dev",
        "deploy.sh --delete --namespace ns",
        f"kubectl delete inferenceservices {everywhere}",
        f"kubectl delete gateways.gateway.networking.k8s.io {everywhere}",
        f"kubectl delete ingresses {everywhere}",
        "kubectl delete services --all-namespaces --field-selector spec.type=LoadBalancer",
        "terraform -chdir=terraform/kserve destroy -var state_bucket=the-project-terraform -var environment=dev",
        f"terraform -chdir=terraform/cluster apply {values} {unprotected}",
        f"terraform -chdir=terraform/cluster destroy {values} {unprotected}",
        f"terraform -chdir=terraform/state apply -var project_id=the-project {unprotected}",
        f"terraform -chdir=terraform/state destroy -var project_id=the-project {unprotected}",
        "gcloud storage ls --buckets --soft-deleted",
    ]
    assert [line for line in record if line in wanted] == wanted


def test_an_api_that_is_not_ready_is_called_again_before_anything_uses_it(walk: tuple[Path, list[str]]) -> None:
    _, record = walk
    asked = [line for line in record if re.fullmatch(r"gcloud [a-z -]+ list --quiet", line) or line == "sleep 10"]
    assert asked.count("sleep 10") == 1
    before, after = asked[: asked.index("sleep 10")], asked[asked.index("sleep 10") + 1 :]
    assert before[-1] == "gcloud artifacts repositories list --quiet"
    assert {line.split()[1] for line in after} == {"artifacts", "builds", "compute", "container", "iam", "storage"}
    assert record.index(after[-1]) < record.index("terraform -chdir=terraform/state init")


def test_docker_can_replace_cloud_build(asides: list[list[str]]) -> None:
    assert asides[0] == ["gcloud auth configure-docker r-docker.pkg.dev", "make image IMAGE=i:1", "docker push i:1"]


def test_what_is_left_in_the_network_is_deleted(asides: list[list[str]]) -> None:
    assert asides[1] == [
        "gcloud compute network-endpoint-groups list --filter=network~/alexnet$ --uri",
        "gcloud compute network-endpoint-groups delete https://c/zones/z/networkEndpointGroups/k8s1-a --quiet",
        "gcloud compute firewall-rules list --filter=network~/alexnet$ --uri",
        "gcloud compute firewall-rules delete https://c/k8s-a --quiet",
        "gcloud compute firewall-rules delete https://c/k8s-b --quiet",
    ]


def test_gcloud_knows_its_commands(walk: tuple[Path, list[str]], asides: list[list[str]], tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    record = [line for lines in (walk[1], *asides) for line in lines]
    assert refused_by_gcloud(record, tmp_path) == {}
    assert len(refused_by_gcloud(["gcloud compute networks list --quickly", "gcloud compute nets list"], tmp_path)) == 2


def test_kubectl_knows_its_commands(walk: tuple[Path, list[str]], tmp_path: Path) -> None:
    """It parses a command before it calls the API server, which does not exist: other errors come first."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    lines = [line for line in walk[1] if re.match(r"kubectl (get|delete) ", line)]
    assert len(lines) > 5
    for line in (*lines, "kubectl delete services --everywhere"):
        command = [*shlex.split(line), "--server=http://127.0.0.1:1", "--request-timeout=1s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=kubeless(tmp_path), check=False)
        assert done.returncode
        assert ("127.0.0.1:1" in done.stderr) != ("--everywhere" in line), f"{line}: {done.stderr}"


def kubeless(folder: Path) -> dict[str, str]:
    return os.environ | {"KUBECONFIG": str(folder / "none"), "HOME": str(folder)}


@pytest.mark.parametrize("folder", ["state", "cluster", "kserve"])
def test_terraform_gets_exactly_the_variables_that_it_needs(folder: str, walk: tuple[Path, list[str]]) -> None:
    text = (CHECKOUT / "terraform" / folder / "variables.tf").read_text()
    blocks = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))
    required = {name for name, block in blocks.items() if not re.search(r"^  default +=", block, re.MULTILINE)}
    tried = [line for line in walk[1] if re.match(rf"terraform -chdir=terraform/{folder} (apply|destroy)", line)]
    assert len(tried) > 1
    for line in tried:
        told = set(re.findall(r" -var (\w+)=", line))
        for file in re.findall(r" -var-file=\.\./(\S+)", line):
            told |= set(re.findall(r"^(\w+) *=", (walk[0] / "terraform" / file).read_text(), re.MULTILINE))
        assert required <= told <= set(blocks), line


def test_all_apis_are_enabled_before_anything_uses_one(walk: tuple[Path, list[str]]) -> None:
    """Those of terraform/cluster, and the two with which Terraform reads the project and enables the others."""
    _, record = walk
    [enabled] = [line for line in record if line.startswith("gcloud services enable ")]
    text = (CHECKOUT / "terraform" / "cluster" / "apis.tf").read_text()
    of_cluster = set(re.findall(r'^    "(\w+\.googleapis\.com)",$', text, re.MULTILINE))
    assert len(of_cluster) > 5
    assert set(enabled.split()[3:]) == of_cluster | {
        "cloudresourcemanager.googleapis.com",
        "serviceusage.googleapis.com",
    }
    later = [line for line in record if line.startswith("gcloud ") and " auth " not in line and " config " not in line]
    assert later[0] == enabled


# Which role makes a resource of a kind; the first that fits. https://cloud.google.com/iam/docs/roles-permissions
ROLES = {
    "google_artifact_registry_": "roles/artifactregistry.admin",
    "google_certificate_manager_": "roles/certificatemanager.owner",
    "google_compute_(firewall|security_policy|ssl_policy)": "roles/compute.securityAdmin",
    "google_compute_": "roles/compute.networkAdmin",
    "google_container_": "roles/container.admin",
    "google_iam_workload_identity_pool": "roles/iam.workloadIdentityPoolAdmin",
    "google_iap_": "roles/iap.admin",
    "google_billing_budget": "roles/billing.costsManager",
    "google_monitoring_": "roles/monitoring.editor",
    "google_project_iam_": "roles/resourcemanager.projectIamAdmin",
    "google_project_service": "roles/serviceusage.serviceUsageAdmin",
    "google_service_account": "roles/iam.serviceAccountAdmin",
    "google_storage_": "roles/storage.admin",
}


def test_the_page_names_the_role_that_makes_each_resource() -> None:
    rows = section(PAGE, "What the applying identity needs")
    for folder in ("state", "cluster"):
        for file in (CHECKOUT / "terraform" / folder).glob("*.tf"):
            for kind in re.findall(r'^resource "(\w+)"', file.read_text(), re.MULTILINE):
                role = next((role for prefix, role in ROLES.items() if re.match(prefix, kind)), "no role is known")
                assert f"`{role}`" in rows, f"{kind} of {file.name}: {role}"


def test_no_line_is_a_comment() -> None:
    """zsh, the shell of macOS, accepts comments only in scripts: at its prompt, an apostrophe begins a string."""
    script = commands(PAGE, THERE) + commands(PAGE, BACK) + "".join(fences(THERE) + fences(BACK))
    assert [line for line in script.splitlines() if re.search(r"(^|\s)#", line)] == []


def test_the_page_fills_in_the_values(walk: tuple[Path, list[str]]) -> None:
    folder, _ = walk
    values = (folder / "terraform" / "environments" / "dev.tfvars").read_text()
    assert 'project_id = "the-project"' in values
    assert '"user:me@example.org"' in values
    assert not re.search(r"my-project|example\.com", re.sub(r"^#.*$", "", values, flags=re.MULTILINE))


def test_the_page_uses_what_the_script_exports() -> None:
    script = commands(PAGE, THERE) + "".join(fences(THERE))
    used = set(re.findall(r"\$([A-Z]+)\b", script))
    exports = set(re.findall(r"^      ([A-Z]+) += ", OUTPUTS, re.MULTILINE))
    assert used == exports | {"ACCOUNT", "ENVIRONMENT", "STATE"}
    [named] = re.findall(r"from\s+what Terraform made it sets (.*?)\.", section(PAGE, THERE), re.DOTALL)
    assert set(re.findall(r"`([A-Z_]+)`", named)) == exports | {"ENVIRONMENT", "STATE", "TF_DATA_DIR"}


def test_the_totals_are_those_of_the_rows() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section(PAGE, "What it costs").splitlines()
        if "|" in line
    ]
    prices = [row for row in rows if len(row) == 5 and re.search(r"^\d", row[1])]
    totals = [[float(cell) for cell in row[1:]] for row in rows if len(row) == 3 and re.search(r"^\d", row[1])]

    def figure(cell: str) -> float:
        """The figure at its start; 0 for cells that end in `nothing`, or `once`, which is not monthly."""
        found = re.match(r"(?:less than )?([\d.]+)", cell)
        return 0.0 if not found or cell.endswith(("nothing", "once")) else float(found[1])

    rest = sum(figure(row[2]) for row in prices)
    node = sum(figure(row[3]) for row in prices)
    [on_demand] = re.findall(r"on demand \(`spot = false`\) [\d.]+ an hour, ([\d.]+)", section(PAGE, "What it costs"))
    [spot] = [figure(row[3]) for row in prices if row[0].endswith("spot")]
    dearer = node - spot + float(on_demand)
    assert totals == [[round(rest + count * each) for each in (node, dearer)] for count in (0, 2, 6, 9)]
