"""Files that only run elsewhere: GitHub's workflows, pre-commit's hooks, Renovate's rules."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
NAMES = ("checks", "cluster-test")
PIN = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")


def text_of(name: str) -> str:
    return (CHECKOUT / ".github" / "workflows" / f"{name}.yml").read_text()


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(text_of(name))
    return loaded


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def commands(name: str) -> list[str]:
    return [step["run"].strip() for step in steps(name) if "run" in step]


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_says_that_nobody_has_run_it_and_may_read_alone(name: str) -> None:
    assert "never run it" in " ".join(text_of(name).replace("#", "").split())
    assert workflow(name)["permissions"] == {"contents": "read"}
    for job in workflow(name)["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_action_is_pinned_and_leaves_no_credentials(name: str) -> None:
    for step in steps(name):
        if "uses" in step:
            assert PIN.fullmatch(step["uses"]), step
            assert "checkout@" not in step["uses"] or step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflows_commands_are_sound(name: str) -> None:
    for command in commands(name):
        checked = subprocess.run(
            [Path(sys.executable).parent / "shellcheck", "--shell", "bash", "-"],
            input=command,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert checked.returncode == 0, checked.stdout


def test_the_checks_are_those_of_the_readme() -> None:
    install, *checks = commands("checks")
    assert install.endswith("apt-get install --yes docker-registry")  # what some tests skip without
    assert checks == [".ci/run", "make image"]


def test_the_cluster_is_made_as_its_page_says() -> None:
    (extract,) = (command for command in commands("cluster-test") if "README.md" in command)
    reading, _, shell = extract.rpartition(" | ")
    assert shell == "sh -ex"
    made = subprocess.run(["sh", "-c", reading], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for wanted in ("kind create cluster", "kserve-crds.yaml", "make image", "kind load docker-image"):
        assert wanted in made
    assert "kubectl apply -k" not in made
    assert not any(line.startswith("    # ") for line in made.splitlines())


def test_each_night_and_by_hand_a_real_cluster_is_asked() -> None:
    assert workflow("cluster-test")[True].keys() == {"schedule", "workflow_dispatch"}  # YAML reads `on` as true
    (command,) = (command for command in commands("cluster-test") if command.startswith("make cluster-test"))
    page = (CHECKOUT / "kserve" / "README.md").read_text()
    assert f"    {command}\n" in page


def test_pre_commit_has_the_hooks_of_make_lint() -> None:
    shown = subprocess.run(["make", "-n", "lint"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    wanted = [line for line in shown.splitlines() if line.startswith(".venv/bin/")]
    (repository,) = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [shlex.split(hook["entry"]) for hook in repository["hooks"]]
    assert [entry[2] if entry[:2] == ["sh", "-c"] else " ".join(entry) for entry in entries] == wanted
    assert not any(hook["pass_filenames"] for hook in repository["hooks"])  # make lint checks all files


def test_renovates_rules_are_about_what_is_pinned() -> None:
    rules = json.loads((CHECKOUT / "renovate.json").read_text())["packageRules"]
    pinned = "".join(file.read_text() for file in (CHECKOUT / "requirements").glob("*.txt"))
    for rule in rules:
        for package in rule.get("matchPackageNames", []):
            assert package == "python" or re.search(rf"^{package}(\[.*\])?==", pinned, re.MULTILINE), package
        for file in rule.get("matchFileNames", []):
            assert (CHECKOUT / file).is_file()
