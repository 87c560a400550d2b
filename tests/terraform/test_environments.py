"""docs/environments.md can be followed where a version goes from one environment to another, with stand-ins."""

from __future__ import annotations

from pathlib import Path

from tests.support.walks import commands, walked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"

# What prod has; dev's image is what the shell had before.
ANSWERS = """
"environment.sh"*) printf "export %s='%s'\\n" PROJECT p REGION r NAMESPACE ns BUCKET prod-models IMAGE prod:1 ;;
"terraform -chdir=terraform/cluster output -raw get_credentials"*) echo gcloud get-credentials ;;
"publish.sh gs://prod-models/alexnet --archive "*) echo gs://prod-models/alexnet/60810fdba6d3 ;;
"""


def test_a_version_is_promoted_with_its_image(tmp_path: Path) -> None:
    script = f"IMAGE=dev:1\n{commands(PAGE, 'From dev to prod')}"
    assert walked(tmp_path, script, {"docker", "gcloud", "terraform"}, ANSWERS)[2:] == [
        "gcloud get-credentials",
        "publish.sh gs://prod-models/alexnet --archive gs://my-project-models/alexnet/60810fdba6d3",
        "docker buildx imagetools create --prefer-index=false --tag prod:1 dev:1",
        "deploy.sh --namespace ns --image prod:1 --storage-uri gs://prod-models/alexnet/60810fdba6d3 --golden pictures",
    ]
