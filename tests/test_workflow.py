""".github/workflows/terraform.yml, an example that does not run here: what can be checked without GitHub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.walks import commands, walked

CHECKOUT = Path(__file__).resolve().parents[1]
WORKFLOW = CHECKOUT / ".github" / "workflows" / "terraform.yml"
PAGE = CHECKOUT / "docs" / "environments.md"
TEXT = WORKFLOW.read_text()
JOBS: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]


def beside(program: str) -> Path:
    """A program of this environment."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        pytest.skip(f"{program} is not installed")
    return path


def judged(workflow: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [beside("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", workflow]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_a_workflow() -> None:
    done = judged(WORKFLOW)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [("    runs-on: ubuntu-24.04\n", ""), ("id-token: write", "id-token: all"), ("  workflow_dispatch:", "  by_hand:")],
    ids=["a job without a machine", "a permission that is none", "an event that is none"],
)
def test_what_is_no_workflow_is_seen(old: str, new: str, tmp_path: Path) -> None:
    assert old in TEXT
    (tmp_path / "workflow.yml").write_text(TEXT.replace(old, new))
    assert judged(tmp_path / "workflow.yml").returncode != 0


def test_actions_are_named_by_their_content() -> None:
    used = re.findall(r"^ +- uses: (.*)$", TEXT, re.MULTILINE)
    assert used
    for action in used:
        assert re.match(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+ #", action), f"{action}: a tag can be moved"


def test_the_same_action_has_one_version() -> None:
    versions = dict(re.findall(r"uses: (\S+)@(\S+)", TEXT))
    assert set(versions.items()) == set(re.findall(r"uses: (\S+)@(\S+)", TEXT))


def test_there_is_no_key() -> None:
    assert "secrets." not in TEXT
    assert "credentials_json" not in TEXT


def test_a_job_may_do_what_it_needs_and_no_more() -> None:
    assert yaml.safe_load(TEXT)["permissions"] == {}
    for name, job in JOBS.items():
        credentials = {"id-token": "write"} if "environment" in job else {}
        assert job["permissions"] == {"contents": "read", **credentials}, name
    assert "environment" not in JOBS["check"], "a pull request gets no credentials"


def test_nothing_that_was_typed_is_put_into_a_script() -> None:
    for name, step in STEPS:
        assert "${{" not in step.get("run", ""), f"{name}: by way of env, where it is no code"


def test_variables_are_those_that_terraform_puts_out() -> None:
    output = (CHECKOUT / "terraform" / "cluster" / "outputs.tf").read_text().partition('output "github"')[2]
    names = set(re.findall(r"^    (\w+) +=", output.partition("\n}\n")[0], re.MULTILINE))
    assert names
    assert set(re.findall(r"vars\.(\w+)", TEXT)) == names | {"STATE_BUCKET"}


@pytest.mark.parametrize("job", JOBS)
def test_shellcheck_finds_nothing(job: str) -> None:
    for _, step in (found for found in STEPS if found[0] == job and "run" in found[1]):
        command: list[str | Path] = [beside("shellcheck"), "--shell", "bash", "--exclude", "SC2086", "-"]
        done = subprocess.run(command, input=step["run"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout


def test_it_runs_what_the_page_tells_a_person_to_run(tmp_path: Path) -> None:
    said = "ENVIRONMENT=prod\nSTATE=states\n"
    folders = [tmp_path / name for name in ("page", "workflow")]
    for folder in folders:
        (folder / "terraform" / "environments").mkdir(parents=True)
        (folder / "terraform" / "environments" / "prod.tfvars.example").touch()
    page = walked(folders[0], said + commands(PAGE, "A file of values and two states"), {"terraform"}, "")
    scripts = "".join(step["run"] for name, step in STEPS if name in ("plan", "apply") and "run" in step)
    workflow = walked(folders[1], said + scripts, {"terraform"}, "")

    def plain(line: str) -> str:
        """A stored plan keeps the values from when it was made."""
        return re.sub(r" (-lockfile=\S+|-out=\S+|\w+\.tfplan)", "", line)

    assert [plain(line) for line in workflow[:4]] == [line.replace(" apply ", " plan ") for line in page]
    assert [plain(line) for line in workflow[4:]] == [
        plain(workflow[0]),
        "terraform -chdir=terraform/cluster apply",
        plain(workflow[2]),
        "terraform -chdir=terraform/kserve apply",
    ]
    kept = re.findall(r"-out=(\S+)", " ".join(workflow))
    assert [line.split()[-1] for line in workflow if " apply " in line] == kept, "what was not shown is not applied"


def test_values_of_kserve_alone_are_taken_where_they_are(tmp_path: Path) -> None:
    values = tmp_path / "terraform" / "environments" / "prod.kserve.tfvars"
    values.parent.mkdir(parents=True)
    values.touch()
    scripts = "".join(step["run"] for name, step in STEPS if name == "plan" and "run" in step)
    record = walked(tmp_path, f"ENVIRONMENT=prod\nSTATE=states\n{scripts}", {"terraform"}, "")
    assert "-var-file=../environments/prod.kserve.tfvars" in record[-1]
