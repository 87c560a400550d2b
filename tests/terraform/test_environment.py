"""scripts/environment.sh prints what Terraform created as lines for a shell, or says in one line what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.supply.release import version

CHECKOUT = Path(__file__).resolve().parents[2]
OUTPUTS = (CHECKOUT / "terraform" / "cluster" / "outputs.tf").read_text()
TAGGED = f"alexnet-torchserve:{version()}"


# Variables that are unset in the shell if the script fails.
NOTHING_STAYS = "unset BUCKET BUILDER IMAGE NAMESPACE REGION\n"
BUILDER = "projects/my-project/serviceAccounts/alexnet-build@my-project.iam.gserviceaccount.com"


def kept() -> dict[str, str]:
    """The environment, without variables that affect Terraform."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "ENVIRONMENT"))} | {
        "CHECKPOINT_DISABLE": "1"
    }


def exported(lines: str) -> dict[str, str]:
    """The names and values that a shell gets from the lines, which must do nothing else."""
    done = subprocess.run(
        ["env", "-i", "sh", "-euc", f'{lines}\nunset PWD OLDPWD SHLVL _; exec "$0" -0', shutil.which("env") or "env"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


def a_folder_with(state: str, folder: Path) -> Path:
    """The script, and a terraform/cluster that needs no provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    (folder / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts" / "environment.sh", folder / "scripts")
    cluster = folder / "terraform" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "main.tf").write_text(state)
    return folder / "scripts" / "environment.sh"


def applied(script: Path) -> None:
    cluster = script.parents[1] / "terraform" / "cluster"
    for command in (["init", "-input=false"], ["apply", "-auto-approve", "-input=false"]):
        subprocess.run(
            ["terraform", f"-chdir={cluster}", *command],
            check=True,
            capture_output=True,
            timeout=120,
            env=kept(),
        )


def run_script(script: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments], capture_output=True, text=True, timeout=120, env={**kept(), **changes}, check=False
    )


def the_output() -> str:
    """The output `environment` of terraform/cluster, with values that its resources could have."""
    found = re.search(r'^output "environment" \{\n.*?^\}', OUTPUTS, re.MULTILINE | re.DOTALL)
    assert found
    values = "".join(
        f'variable "{name}" {{\n  default = "{value}"\n}}\n'
        for name, value in {"project_id": "my-project", "namespace": "alexnet"}.items()
    )
    values += 'locals {\n  region           = "europe-west4"\n  image_repository = "r-docker.pkg.dev/p/alexnet"\n}\n'
    text = found[0].replace("google_storage_bucket.models.name", '"it\'s $(false) a bucket"')
    return values + text.replace("google_service_account.builds.id", f'"{BUILDER}"')


def test_the_environment_is_what_terraform_created(tmp_path: Path) -> None:
    script = a_folder_with(the_output(), tmp_path)
    applied(script)
    done = run_script(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert exported(done.stdout) == {
        "BUILDER": BUILDER,
        "BUCKET": "it's $(false) a bucket",
        "IMAGE": f"r-docker.pkg.dev/p/alexnet/{TAGGED}",
        "NAMESPACE": "alexnet",
        "PROJECT": "my-project",
        "REGION": "europe-west4",
    }


def test_the_image_is_tagged_as_make_tags_it() -> None:
    """tests/test_version.py checks that make uses the version."""
    assert f'IMAGE     = "${{local.image_repository}}/{TAGGED}"' in OUTPUTS


def test_an_environment_is_restored_by_its_name(tmp_path: Path) -> None:
    """In a new shell: what Terraform created there, and the variables that make Terraform work there."""
    script = a_folder_with(the_output(), tmp_path)
    applied(script)
    done = run_script(script, "dev")
    assert (done.returncode, done.stderr) == (0, "")
    values = exported(done.stdout)
    assert (values["PROJECT"], values["ENVIRONMENT"], values["TF_DATA_DIR"]) == ("my-project", "dev", ".terraform/dev")


def test_the_bucket_of_the_state_is_the_one_that_terraform_was_initialised_with(tmp_path: Path) -> None:
    script = a_folder_with("", tmp_path)
    data = tmp_path / "terraform" / "cluster" / ".terraform" / "dev"
    data.mkdir(parents=True)
    config = {"bucket": "my-project-terraform", "prefix": "dev/cluster", "access_token": None}
    backend = {"version": 3, "terraform_version": "1.11.4", "backend": {"type": "gcs", "config": config, "hash": 1}}
    (data / "terraform.tfstate").write_text(json.dumps(backend, indent=2))  # as Terraform 1.11 writes it
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "terraform").write_text("#!/bin/sh\necho \"export DATA='$TF_DATA_DIR'\"\n")
    (tmp_path / "bin" / "terraform").chmod(0o755)
    done = run_script(script, "dev", PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert exported(done.stdout) == {
        "DATA": ".terraform/dev",
        "ENVIRONMENT": "dev",
        "STATE": "my-project-terraform",
        "TF_DATA_DIR": ".terraform/dev",
    }


@pytest.mark.parametrize("arguments", [["../prod"], ["--bogus"], ["dev", "prod"], ["a b"]], ids=" ".join)
def test_an_invalid_environment_is_refused(arguments: list[str]) -> None:
    done = run_script(CHECKOUT / "scripts" / "environment.sh", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*\n", done.stderr)


@pytest.mark.parametrize("environment", [[], ["dev"]], ids=["", "dev"])
@pytest.mark.parametrize(
    ("state", "apply", "reason"),
    [
        (
            'terraform {\n  backend "gcs" {}\n}\n',
            False,
            "is not initialised: run terraform -chdir=terraform/cluster init -backend-config=bucket=…",
        ),
        (None, False, "has not been applied: run terraform -chdir=terraform/cluster apply -var-file=…"),
        ('output "other" {\n  value = "1"\n}\n', True, "was applied before it had this output: run"),
    ],
    ids=["not initialised", "not applied", "applied before"],
)
def test_anything_missing_is_reported_in_one_line(
    state: str | None, apply: bool, reason: str, environment: list[str], tmp_path: Path
) -> None:
    script = a_folder_with(the_output() if state is None else state, tmp_path)
    if apply:
        applied(script)
    done = run_script(script, *environment)
    assert (done.returncode, done.stdout) == (1, NOTHING_STAYS)
    assert done.stderr.startswith(f"error: terraform/cluster {'of dev ' if environment else ''}")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_after_a_failure_nothing_of_another_environment_stays(tmp_path: Path) -> None:
    """Otherwise the next command would deploy there."""
    line = (
        f'IMAGE=dev:1 BUCKET=dev; eval "$({a_folder_with("", tmp_path)} prod)"; echo "${{IMAGE-none}} ${{BUCKET-none}}"'
    )
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "none none\n"


def test_terraforms_own_error_is_passed_on_in_one_line(tmp_path: Path) -> None:
    script = a_folder_with(the_output(), tmp_path)
    (tmp_path / "terraform" / "cluster" / "terraform.tfstate").write_text("{bad")
    done = run_script(script)
    assert (done.returncode, done.stdout) == (1, NOTHING_STAYS)
    assert done.stderr == "error: terraform output: Unsupported state file format\n"


def test_without_terraform_a_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "dirname", "readlink"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    done = run_script(CHECKOUT / "scripts" / "environment.sh", PATH=str(tmp_path / "bin"))
    assert (done.returncode, done.stdout) == (1, NOTHING_STAYS)
    assert done.stderr == "error: terraform is not installed: see terraform/README.md for what you need\n"
