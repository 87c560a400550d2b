"""terraform/ is formatted and valid, its own tests pass, and its plans follow a policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artefact.model import MODEL_NAME
from pipeline.store.explanations import READER, WRITER
from tests.support.terraform import CHECKOUT, FOLDERS, LEFT_BEHIND, Resource, Terraform, environment, of, said, texts

pytestmark = pytest.mark.timeout(600)  # the first test that needs it waits for all of `terraform test`

ALLOWED_ROLES = {
    "roles/artifactregistry.reader",
    "roles/artifactregistry.writer",
    "roles/container.defaultNodeServiceAccount",
    "roles/iam.serviceAccountUser",
    "roles/iap.httpsResourceAccessor",
    "roles/logging.logWriter",
    "roles/serviceusage.serviceUsageConsumer",
    "roles/storage.legacyBucketReader",
    "roles/storage.objectUser",
    "roles/storage.objectViewer",
}

# --- Terraform's own judgement ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_is_formatted(folder: str) -> None:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    command = ["terraform", "fmt", "-check", "-diff", "-recursive", str(CHECKOUT / "terraform" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_is_valid(folder: str, terraform: Terraform) -> None:
    done = terraform(folder, "validate", "-no-color")
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_own_tests_pass(folder: str, messages: dict[str, list[Resource]]) -> None:
    wrong = [message["@message"] for message in messages[folder] if message["@level"] == "error"]
    summaries = [message["test_summary"] for message in messages[folder] if message["type"] == "test_summary"]
    assert len(summaries) == len(list((CHECKOUT / "terraform" / folder / "tests").glob("*.tftest.hcl")))
    for summary in summaries:
        assert (summary["status"], summary["failed"], summary["errored"], summary["skipped"]) == ("pass", 0, 0, 0), (
            wrong
        )
        assert summary["passed"] > 0


def mocked_outputs() -> str:
    """A cluster's outputs, as in terraform/kserve's own tests."""
    tests = (CHECKOUT / "terraform" / "kserve" / "tests" / "kserve.tftest.hcl").read_text()
    found = re.search(r"outputs = (\{.*?\n    \})", tests, re.DOTALL)
    assert found
    return found[1]


def read_by_kserve(cluster: str) -> str:
    """A mock of what terraform/kserve reads before it plans: a cluster's outputs, and the cluster."""
    return (
        f"override_data {{\n  target = data.terraform_remote_state.cluster\n  values = {{ outputs = {cluster} }}\n}}\n"
        'override_data {\n  target = data.google_container_cluster.this\n  values = { endpoint = "172.16.0.2" }\n}\n'
    )


EXAMPLES = sorted(path.name for path in (CHECKOUT / "terraform" / "environments").glob("*.example"))


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("commented", [False, True], ids=["as it is", "with its comments"])
def test_the_example_values_are_accepted(example: str, commented: bool, terraform: Terraform, tmp_path: Path) -> None:
    folder = "kserve" if ".kserve." in example else "cluster"
    shutil.copytree(terraform.folders / folder, tmp_path / "folder", symlinks=True)
    shutil.rmtree(tmp_path / "folder" / "tests")
    (tmp_path / "folder" / "tests").mkdir()
    values = (CHECKOUT / "terraform" / "environments" / example).read_text()
    if commented:  # values that are commented out: an assignment, and the lines of its value
        values = re.sub(r"^# (\w+ +=|  \w+ += |\})", r"\1", values, flags=re.MULTILINE)
        if folder == "kserve":  # each is for the other mode
            values = re.sub(r"^deployment_mode .*$", "", values, flags=re.MULTILINE)
    (tmp_path / "folder" / "terraform.tfvars").write_text(values)
    providers = ["google", "helm", "kubernetes"] if folder == "kserve" else ["google"]
    test = "".join(f'mock_provider "{name}" {{}}\n' for name in providers)
    if folder == "kserve":
        test += 'variables {\n  environment = "dev"\n  state_bucket = "a-bucket"\n}\n'
        test += read_by_kserve(mocked_outputs())
    (tmp_path / "folder" / "tests" / "example.tftest.hcl").write_text(
        test + 'run "the_example" {\n  command = plan\n}\n'
    )
    done = terraform(tmp_path / "folder", "test", "-no-color")
    assert done.returncode == 0, said(done)
    assert "1 passed" in said(done)
    assert "undeclared variable" not in said(done)


def test_the_cluster_has_the_outputs_that_kserve_reads() -> None:
    read = set(re.findall(r"\blocal\.cluster\.(\w+)", source("kserve")))
    assert read
    assert read <= outputs("cluster")
    checked = re.search(r"for name in \[(.*?)\] : can\(self\.outputs", source("kserve"), re.DOTALL)
    assert checked
    assert set(re.findall(r'"(\w+)"', checked[1])) == read, "a state without it must be refused with a message"
    assert set(re.findall(r"(\w+) +=", mocked_outputs())) == read


# --- The set-up itself ------------------------------------------------------------------------------------------------

BUCKET = 'resource "google_storage_bucket" "this" {{\n{arguments}\n}}\n'


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('name = "a-bucket"\nlocation = "EU"\nuniform_acess = true', "Unsupported argument"),
        (
            'name = "a-bucket"\nlocation = "EU"\nuniform_bucket_level_access = "perhaps"',
            "Incorrect attribute value type",
        ),
        ('name = "a-bucket"', 'The argument "location" is required'),
    ],
    ids=["an unknown argument", "a wrong type", "a missing argument"],
)
def test_invalid_values_are_refused(arguments: str, reason: str, terraform: Terraform, tmp_path: Path) -> None:
    versions = (terraform.folders / "state" / "versions.tf").read_text().replace("var.project_id", '"my-project"')
    (tmp_path / "versions.tf").write_text(versions)
    (tmp_path / "main.tf").write_text(BUCKET.format(arguments='name = "a-bucket"\nlocation = "EU"'))
    assert terraform.prepared(tmp_path) == ""
    assert terraform(tmp_path, "validate", "-no-color").returncode == 0
    (tmp_path / "main.tf").write_text(BUCKET.format(arguments=arguments))
    done = terraform(tmp_path, "validate", "-no-color")
    assert done.returncode != 0
    assert reason in said(done)


def tracked() -> list[str]:
    command = ["git", "-C", str(CHECKOUT), "ls-files", "--", "terraform"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


@pytest.mark.parametrize("folder", FOLDERS)
def test_requests_count_against_the_configured_project(folder: str) -> None:
    """Otherwise, with a gcloud login, they count against a project of Google's, which IAP and others refuse."""
    [block] = re.findall(r'^provider "google" \{\n(.*?)^\}', source(folder), re.MULTILINE | re.DOTALL)
    [project] = re.findall(r"^  project += (.*)$", block, re.MULTILINE)
    assert re.search(r"^  user_project_override = true$", block, re.MULTILINE)
    assert re.findall(r"^  billing_project += (.*)$", block, re.MULTILINE) == [project]


def test_no_installation_files_are_in_the_repository() -> None:
    unwanted = re.compile(r"(\.tfstate.*|\.tfvars|\.tfplan)$|/\.terraform/")
    assert [name for name in tracked() if unwanted.search(name)] == []
    names = ["terraform.tfstate", "terraform.tfstate.backup", "terraform.tfvars", ".terraform/dev/modules", "a.tfplan"]
    for name in [*(f"cluster/{name}" for name in names), "environments/dev.tfvars", "environments/dev.kserve.tfvars"]:
        command = ["git", "-C", str(CHECKOUT), "check-ignore", "--quiet", f"terraform/{name}"]
        assert subprocess.run(command, timeout=60, check=False).returncode == 0, f"{name} is not ignored"


def required(folder: str) -> set[str]:
    versions = (CHECKOUT / "terraform" / folder / "versions.tf").read_text()
    return set(re.findall(r'source\s+= "(hashicorp/\w+)"', versions))


def unlocked(lock: str, providers: set[str]) -> set[str]:
    """The providers for which a lock file has no checksum signed by the registry: stand-ins have none."""
    blocks = re.findall(r'provider "registry\.terraform\.io/(\S+)" \{(.*?)\n\}', lock, re.DOTALL)
    return providers - {name for name, block in blocks if '"zh:' in block}


def test_a_lock_file_is_from_real_providers() -> None:
    # There is none here; a fork commits its own.
    assert subprocess.run(
        ["git", "-C", str(CHECKOUT), "check-ignore", "--quiet", "terraform/cluster/.terraform.lock.hcl"],
        timeout=60,
        check=False,
    ).returncode, "git ignores lock files"
    for name in tracked():
        if name.endswith(".terraform.lock.hcl"):
            folder = Path(name).parent.name
            assert unlocked((CHECKOUT / name).read_text(), required(folder)) == set(), name


def test_a_lock_file_from_stand_ins_would_be_found() -> None:
    block = (
        'provider "registry.terraform.io/hashicorp/google" {\n  version = "8.7.0"\n  hashes = [\n    "%s",\n  ]\n}\n'
    )
    assert required("state") == {"hashicorp/google"}
    assert unlocked(block % "zh:00", required("state")) == set()
    assert unlocked(block % "h1:00", required("state")) == {"hashicorp/google"}
    assert unlocked(block % "zh:00", required("kserve")) == {"hashicorp/helm", "hashicorp/kubernetes"}


# --- Policy -----------------------------------------------------------------------------------------------------------


def test_there_is_no_key(planned: list[Resource]) -> None:
    kinds = {resource["type"] for resource in planned}
    assert [kind for kind in kinds if re.search(r"_key$|hmac|secret", kind)] == []


def test_no_data_source_writes_a_token_into_the_state() -> None:
    sources = {kind for folder in FOLDERS for kind in re.findall(r'^data "(\w+)"', source(folder), re.MULTILINE)}
    assert sources == {
        "google_compute_machine_types",
        "google_compute_zones",
        "google_container_cluster",
        "google_project",
        "terraform_remote_state",
    }


def test_nothing_is_given_to_everybody(planned: list[Resource]) -> None:
    everybody = {"allUsers", "allAuthenticatedUsers"}
    assert [resource["address"] for resource in planned if everybody & set(texts(resource["values"]))] == []


def test_only_these_roles_are_granted_and_none_is_basic(planned: list[Resource]) -> None:
    roles = {
        resource["values"]["role"]
        for resource in planned
        if resource["type"].endswith("_iam_member") and "iam_member.github" not in resource["address"]
    }
    assert roles == ALLOWED_ROLES


def test_a_workflow_has_the_roles_that_applying_needs(planned: list[Resource]) -> None:
    """The page's roles on the project; it may read the pool that lets it in, but not change it."""
    page = (CHECKOUT / "terraform" / "README.md").read_text().partition("## What the applying identity needs")[2]
    rows = re.findall(r"^\| (`roles/.*?) \|", page.partition("\n\nTerraform acts as")[0], re.MULTILINE)
    listed = {role for row in rows if "billing account" not in row for role in re.findall(r"`(roles/[\w.]+)`", row)}
    given = {
        resource["values"]["role"]
        for resource in planned
        if resource["address"].startswith("google_project_iam_member.github")
    }
    assert given - {"roles/iam.workloadIdentityPoolViewer"} == listed - {"roles/iam.workloadIdentityPoolAdmin"}


def test_a_workflow_may_grant_only_the_roles_that_terraform_grants(planned: list[Resource]) -> None:
    (condition,) = {
        resource["values"]["condition"][0]["expression"]
        for resource in planned
        if resource["address"].startswith("google_project_iam_member.github_gives_roles")
    }
    given = {
        resource["values"]["role"]
        for resource in planned
        if resource["type"] == "google_project_iam_member" and "github" not in resource["address"]
    }
    assert set(re.findall(r"'(roles/[\w.]+)'", condition)) == given


def test_roles_are_added_without_replacing_others(planned: list[Resource]) -> None:
    # …_iam_binding and …_iam_policy replace what they find.
    kinds = {resource["type"] for resource in planned if re.search("_iam_(member|binding|policy)$", resource["type"])}
    assert all(kind.endswith("_iam_member") for kind in kinds), kinds


def test_no_control_plane_is_open_to_the_world(planned: list[Resource]) -> None:
    for cluster in of(planned, "google_container_cluster"):
        addressed = cluster["control_plane_endpoints_config"][0]["ip_endpoints_config"][0]["enabled"]
        networks = [
            block["cidr_block"]
            for config in cluster["master_authorized_networks_config"] or []
            for block in config["cidr_blocks"] or []
        ]
        assert addressed == bool(networks)
        assert not {"0.0.0.0/0", "::/0"} & set(networks)
        assert cluster["private_cluster_config"][0]["enable_private_nodes"]


def test_every_bucket_is_private_and_versioned(planned: list[Resource]) -> None:
    for bucket in of(planned, "google_storage_bucket"):
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
        assert bucket["versioning"][0]["enabled"] is True


def test_no_firewall_rule_admits_outside_addresses(planned: list[Resource]) -> None:
    for rule in of(planned, "google_compute_firewall"):
        assert rule["direction"] == "INGRESS"
        assert all(ip_network(source).is_private for source in rule["source_ranges"])
        assert [allowed["protocol"] for allowed in rule["allow"]] == ["tcp"]
        assert rule["target_service_accounts"] or "target_service_accounts" not in rule  # known once it is applied
    variables = (CHECKOUT / "terraform" / "cluster" / "variables.tf").read_text()
    assert re.search(r'^variable "webhook_rule" \{.*?default = null', variables, re.MULTILINE | re.DOTALL)


def test_everything_that_can_have_labels_has_the_billing_labels(planned: list[Resource]) -> None:
    # A notification channel's `labels` are its address.
    for resource in planned:
        values = resource["values"]
        name = next((name for name in ("user_labels", "resource_labels", "labels") if name in values), None)
        if name and resource["type"].startswith("google_"):
            assert values[name], resource["address"]


@pytest.mark.parametrize("folder", ["state", "cluster"])
def test_deletion_is_protected_by_default(folder: str) -> None:
    variables = (CHECKOUT / "terraform" / folder / "variables.tf").read_text()
    block = re.search(r'variable "deletion_protection" \{(.*?)\n\}', variables, re.DOTALL)
    assert block
    assert re.search(r"default\s+= true", block[1])


@pytest.mark.slow
def test_trivy_finds_nothing_high_that_is_not_explained(tmp_path: Path) -> None:
    trivy = Path(sys.executable).with_name("trivy")
    if not trivy.exists():
        pytest.skip("trivy is not installed: its package has a wheel for Linux on x86-64 alone")

    def findings(folder: Path) -> list[str]:
        command: list[str | Path] = [
            trivy,
            "config",
            "--quiet",
            "--skip-check-update",
            "--skip-version-check",
            "--format",
            "json",
        ]
        command += ["--severity", "HIGH,CRITICAL", "--cache-dir", tmp_path / "cache", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        results: list[dict[str, Any]] = json.loads(done.stdout)["Results"]
        understood = sum(result.get("MisconfSummary", {}).get("Successes", 0) for result in results)
        assert understood > 0
        return sorted(found["ID"] for result in results for found in result.get("Misconfigurations", []))

    copy = tmp_path / "terraform"
    shutil.copytree(CHECKOUT / "terraform", copy, ignore=LEFT_BEHIND)
    assert findings(copy) == []
    cluster = copy / "cluster" / "cluster.tf"
    explanation = "#trivy:ignore:GCP-0061\n"
    assert explanation in cluster.read_text()
    cluster.write_text(cluster.read_text().replace(explanation, ""))
    assert findings(copy) == ["GCP-0061"]


CHECKOV = CHECKOUT / ".venv-checkov" / "bin" / "checkov"

# Offline, checkov gives no severities: each of its checks counts as high.
SKIP = re.compile(r"^ *#checkov:skip=(CKV2?_GCP_\d+):(.*)\n", re.MULTILINE)


@pytest.mark.slow
def test_checkov_finds_nothing_that_is_not_explained(tmp_path: Path) -> None:
    if not CHECKOV.exists():
        pytest.skip(
            "checkov is not installed: it conflicts with pytest and has an environment of its own, .venv-checkov"
        )

    def findings(folder: Path) -> list[str]:
        command: list[str | Path] = [CHECKOV, "--directory", folder, "--framework", "terraform", "--skip-download"]
        command += ["--output", "json", "--soft-fail"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=environment())
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"] > 0
        return sorted(check["check_id"] for check in report["results"]["failed_checks"])

    copy = tmp_path / "terraform"
    shutil.copytree(CHECKOUT / "terraform", copy, ignore=LEFT_BEHIND)
    assert findings(copy) == []
    explained = []
    for path in copy.rglob("*.tf"):
        text = path.read_text()
        explained += SKIP.findall(text)
        path.write_text(SKIP.sub("", text))
    assert all(len(reason.split()) > 5 for _, reason in explained), explained
    assert findings(copy) == sorted(identifier for identifier, _ in explained)  # and no explanation is superfluous


# --- The same names as elsewhere --------------------------------------------------------------------------------------


def source(folder: str) -> str:
    return "\n".join(path.read_text() for path in sorted((CHECKOUT / "terraform" / folder).glob("*.tf")))


def outputs(folder: str) -> set[str]:
    return set(re.findall(r'^output "(\w+)"', source(folder), re.MULTILINE))


def test_the_buckets_reader_is_the_manifests_service_account() -> None:
    account = yaml.safe_load((CHECKOUT / "kserve" / "base" / "service-account.yaml").read_text())
    variable = source("cluster").partition('variable "services"')[2]
    [name] = re.findall(r'default     = \["([^"]+)"\]', variable.partition("validation")[0])
    assert name == account["metadata"]["name"] == MODEL_NAME
    documented = (CHECKOUT / "kserve" / "base" / "service-account.yaml").read_text()
    assert "subject/ns/NAMESPACE/sa/alexnet" in documented
    assert "subject/ns/${var.namespace}/sa/${service}" in source("cluster")


def test_the_repository_is_the_one_that_cloud_build_pushes_to() -> None:
    text = (CHECKOUT / "kserve" / "runtime" / "cloudbuild.yaml").read_text()
    assert (
        yaml.safe_load(text)["options"]["logging"] == "CLOUD_LOGGING_ONLY"
    )  # the account may not write logs elsewhere
    (repository,) = re.findall(r"^# .*docker\.pkg\.dev/\$PROJECT/([\w-]+)/alexnet-torchserve:", text, re.MULTILINE)
    assert f'repository_id = "{repository}" # the repository that' in source("cluster")


def test_the_namespace_is_that_of_the_manifests() -> None:
    path = CHECKOUT / "kserve" / "components" / "restricted-namespace" / "namespace" / "namespace.yaml"
    namespace = yaml.safe_load(path.read_text())
    block = re.search(r'variable "namespace" \{(.*?)\n\}', source("cluster"), re.DOTALL)
    assert block
    assert f'default     = "{namespace["metadata"]["name"]}"' in block[1]
    for label, value in namespace["metadata"]["labels"].items():
        if label.startswith("pod-security.kubernetes.io/"):
            assert re.search(rf'"{re.escape(label)}"\s+= "{re.escape(value)}"', source("kserve")), label


def test_serving_nodes_have_the_taint_that_the_base_tolerates() -> None:
    service = yaml.safe_load((CHECKOUT / "kserve" / "base" / "inference-service.yaml").read_text())
    (toleration,) = service["spec"]["predictor"]["tolerations"]
    assert toleration == {"key": "torchserve-alexnet/role", "value": "serving", "effect": "NoSchedule"}
    assert f'role = "{toleration["key"]}"' in source("cluster")


def test_gpu_nodes_have_the_taint_that_the_component_tolerates() -> None:
    component = (CHECKOUT / "kserve" / "components" / "gpu" / "kustomization.yaml").read_text()
    assert "key: nvidia.com/gpu" in component
    assert 'key    = "nvidia.com/gpu"' in source("cluster")
    assert "gke-accelerator: nvidia-l4" in component
    example = CHECKOUT / "terraform" / "environments" / "dev.tfvars.example"
    assert 'gpu = { type = "nvidia-l4" }' in example.read_text()


def test_the_pages_of_the_manifests_install_the_same_cert_manager() -> None:
    variable = source("kserve").partition('variable "cert_manager_version"')[2]
    (version,) = re.findall(r'default     = "([^"]+)"', variable.partition("validation")[0])
    for page in ("kserve/README.md", "kserve/overlays/kind/README.md"):
        found = re.findall(r"cert-manager/releases/download/(v[\d.]+)/", (CHECKOUT / page).read_text())
        assert found == [version], page


def test_the_lifecycle_rule_matches_publishings_unfinished_uploads() -> None:
    publish = (CHECKOUT / "pipeline" / "store" / "publish.py").read_text()
    assert ".part" in publish
    assert 'matches_suffix = [".part"]' in source("cluster")


def test_roles_are_those_that_the_pipelines_messages_name() -> None:
    assert f'"{READER}"' in source("cluster")
    assert f'"{WRITER}"' in source("cluster")


def test_the_folder_that_messages_name_has_the_output_that_they_promise() -> None:
    for module in ("shared/errors.py", "store/storage_uri.py"):
        text = (CHECKOUT / "pipeline" / module).read_text()
        assert "terraform -chdir=terraform/cluster output" in text
    needed = {"models_bucket", "image_repository", "get_credentials", "node_service_account", "namespace"}
    assert needed <= outputs("cluster")


def test_documents_name_outputs_that_exist() -> None:
    for path in (CHECKOUT / "terraform").rglob("*.md"):
        for folder, name in re.findall(r"-chdir=terraform/(\w+) output (?:-raw )?(\w+)", path.read_text()):
            assert name in outputs(folder), f"{path.name}: {folder} has no output {name}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_variables_are_alphabetical_and_documented(folder: str) -> None:
    text = (CHECKOUT / "terraform" / folder / "variables.tf").read_text()
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    names = [name for name, _ in blocks]
    assert names == sorted(names)
    for name, block in blocks:
        assert re.search(r"^  description\s+= ", block, re.MULTILINE), name
        assert re.search(r"^  type\s+= ", block, re.MULTILINE), name
        # Null has a meaning only where it is the default.
        assert bool(re.search(r"^  nullable\s+= false", block, re.MULTILINE)) != bool(
            re.search(r"^  default\s+= null", block, re.MULTILINE)
        ), name
        assert "= bool" in block or "validation {" in block, name


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_validation_is_tried_with_a_bad_value(folder: str) -> None:
    variables = (CHECKOUT / "terraform" / folder / "variables.tf").read_text()
    tests = "\n".join(path.read_text() for path in (CHECKOUT / "terraform" / folder / "tests").glob("*.tftest.hcl"))
    for name, block in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', variables, re.MULTILINE | re.DOTALL):
        assert tests.count(f"[var.{name}]") >= block.count("validation {"), name
