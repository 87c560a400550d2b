"""terraform/README.md can be followed: its commands, in one shell, with a stand-in for each program that they call."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.walks import commands, section, walked

CHECKOUT = Path(__file__).resolve().parents[2]
OUTPUTS = (CHECKOUT / "terraform" / "cluster" / "outputs.tf").read_text()


PAGE = CHECKOUT / "terraform" / "README.md"

# What the page reads of the programs that it calls.
ANSWERS = """
"gcloud config get account"*) echo me@example.org ;;
"terraform -chdir=terraform/state output -raw bucket_name"*) echo the-project-terraform ;;
"terraform -chdir=terraform/cluster output -raw get_credentials"*) echo gcloud container clusters get-credentials a ;;
"environment.sh"*) printf "export %s='%s'\\n" PROJECT the-project REGION r NAMESPACE ns BUCKET b IMAGE i:1 ;;
"publish.sh gs://b/alexnet"*) echo gs://b/alexnet/v ;;
"""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The page's commands, there and back."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "terraform" / "environments").mkdir(parents=True)
    for example in (CHECKOUT / "terraform" / "environments").glob("*.example"):
        shutil.copy(example, folder / "terraform" / "environments")
    there = commands(PAGE, "From an empty project to a prediction").replace("PROJECT=my-project", "PROJECT=the-project")
    programs = {"gcloud", "terraform", "kubectl", "docker", "make"}
    return folder, walked(folder, f"{there}\n{commands(PAGE, 'Back to nothing')}", programs, ANSWERS)


def test_the_page_can_be_followed_from_top_to_bottom(walk: tuple[Path, list[str]]) -> None:
    _, record = walk
    values, state = "-var-file=../environments/dev.tfvars", "-backend-config=bucket=the-project-terraform"
    unprotected = "-var deletion_protection=false"
    wanted = [
        f"terraform -chdir=terraform/cluster init {state} -backend-config=prefix=dev/cluster",
        f"terraform -chdir=terraform/cluster apply {values}",
        "environment.sh",
        "gcloud container clusters get-credentials a",
        "terraform -chdir=terraform/kserve apply -var state_bucket=the-project-terraform -var environment=dev",
        "make image IMAGE=i:1",
        "docker push i:1",
        "deploy.sh --namespace ns --image i:1 --storage-uri gs://b/alexnet/v",
        "kubectl get inferenceservice --namespace ns",
        "deploy.sh --delete --namespace ns",
        "terraform -chdir=terraform/kserve destroy -var state_bucket=the-project-terraform -var environment=dev",
        f"terraform -chdir=terraform/cluster destroy {values} {unprotected}",
        f"terraform -chdir=terraform/state destroy -var project_id=the-project {unprotected}",
        "gcloud storage buckets list --soft-deleted --format=value(name)",
    ]
    assert [line for line in record if line in wanted] == [*wanted[:3], *wanted[3:9], "environment.sh", *wanted[9:]]


def test_the_page_fills_in_the_values(walk: tuple[Path, list[str]]) -> None:
    folder, _ = walk
    values = (folder / "terraform" / "environments" / "dev.tfvars").read_text()
    assert 'project_id = "the-project"' in values
    assert '"user:me@example.org"' in values
    assert not re.search(r"my-project|example\.com", re.sub(r"^#.*$", "", values, flags=re.MULTILINE))


def test_the_page_uses_what_the_script_exports() -> None:
    used = set(re.findall(r"\$([A-Z]+)\b", commands(PAGE, "From an empty project to a prediction")))
    exports = set(re.findall(r"^      ([A-Z]+) += ", OUTPUTS, re.MULTILINE))
    assert used == exports | {"ACCOUNT", "ENVIRONMENT", "STATE"}


def test_the_totals_are_those_of_the_rows() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section(PAGE, "What it costs").splitlines()
        if "|" in line
    ]
    prices = [row for row in rows if len(row) == 5 and re.search(r"^\d", row[1])]
    totals = [[float(cell) for cell in row[1:]] for row in rows if len(row) == 3 and re.search(r"^\d", row[1])]

    def figure(cell: str) -> float:
        """The one that it begins with; what ends in `nothing` is none, and `once` is not of every month."""
        found = re.match(r"(?:less than )?([\d.]+)", cell)
        return 0.0 if not found or cell.endswith(("nothing", "once")) else float(found[1])

    rest = sum(figure(row[2]) for row in prices)
    node = sum(figure(row[3]) for row in prices)
    [on_demand] = re.findall(r"on demand \(`spot = false`\) [\d.]+ an hour, ([\d.]+)", section(PAGE, "What it costs"))
    [spot] = [figure(row[3]) for row in prices if row[0].endswith("spot")]
    dearer = node - spot + float(on_demand)
    assert totals == [[round(rest + count * each) for each in (node, dearer)] for count in (0, 2, 6, 9)]
