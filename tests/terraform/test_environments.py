"""The steps in docs/environments.md that promote a version to another environment work, with stand-ins."""

from __future__ import annotations

from pathlib import Path

from tests.support.walks import commands, walked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"

# Prod's values; the shell still has dev's image.
ANSWERS = """
"environment.sh"*) printf "export %s='%s'\\n" PROJECT p REGION r NAMESPACE ns BUCKET prod-models IMAGE prod:1 ;;
"terraform -chdir=terraform/cluster output -raw get_credentials"*) echo gcloud get-credentials ;;
"publish.sh gs://prod-models/alexnet --archive "*) echo gs://prod-models/alexnet/60810fdba6d3 ;;
"""


def test_a_version_is_promoted_with_its_image(tmp_path: Path) -> None:
    script = f"IMAGE=dev:1\nREGION=dev-region\n{commands(PAGE, 'From dev to prod')}"
    assert walked(tmp_path, script, {"docker", "gcloud", "terraform"}, ANSWERS)[2:] == [
        "gcloud get-credentials",
        "publish.sh gs://prod-models/alexnet --archive gs://my-project-models/alexnet/60810fdba6d3",
        "gcloud auth configure-docker dev-region-docker.pkg.dev,r-docker.pkg.dev",
        "docker buildx imagetools create --prefer-index=false --tag prod:1 dev:1",
        "deploy.sh --namespace ns --image prod:1 --storage-uri gs://prod-models/alexnet/60810fdba6d3 --golden pictures",
    ]


def test_a_second_environment_starts_with_its_project_and_its_apis(tmp_path: Path) -> None:
    """Otherwise a plan, which asks the project for its machines, would get 403."""
    beginning = PAGE.read_text().partition("-chdir=terraform/cluster init")[0]
    assert "gcloud config set project $PROJECT" in beginning.partition("gcloud services enable")[0]
    script = f"STATE=s\n{commands(PAGE, 'A file of values and two states')}"
    (tmp_path / "terraform" / "environments").mkdir(parents=True)
    (tmp_path / "terraform" / "environments" / "prod.tfvars.example").touch()
    assert walked(tmp_path, script, {"gcloud", "terraform"}, ANSWERS) == [
        "gcloud config set project my-project-prod",
        "terraform -chdir=terraform/cluster init -backend-config=bucket=s -backend-config=prefix=prod/cluster",
        "terraform -chdir=terraform/cluster apply -var-file=../environments/prod.tfvars",
        "terraform -chdir=terraform/kserve init -backend-config=bucket=s -backend-config=prefix=prod/kserve",
        "terraform -chdir=terraform/kserve apply -var state_bucket=s -var environment=prod",
    ]
