"""terraform/ is copied once, and its own tests run once, for all tests that use their plans."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.terraform import CHECKOUT, FOLDERS, LEFT_BEHIND, OFFLINE, Resource, Terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    folders = tmp_path_factory.mktemp("copy") / "terraform"
    shutil.copytree(CHECKOUT / "terraform", folders, ignore=LEFT_BEHIND)
    script = OFFLINE / "with-providers"
    copy = Terraform(folders, [str(script)] if script.is_file() else [])
    if copy.prefix:
        trial = subprocess.run([script, "true"], capture_output=True, text=True, timeout=500, check=False)
        if trial.returncode:
            pytest.skip(f"the stand-ins for providers do not start: {trial.stderr.strip()[-200:]}")
    for folder in FOLDERS:
        if reason := copy.prepared(folder):
            pytest.skip(f"no stand-ins in TERRAFORM_OFFLINE, and providers cannot be downloaded: …{reason[-200:]}")
    return copy


@pytest.fixture(scope="session")
def messages(terraform: Terraform) -> dict[str, list[Resource]]:
    """By folder, the output of `terraform test`: one message a line."""

    def run(path: Path) -> list[Resource]:
        # Refused plans have nothing to show, and showing plans takes most of the time.
        shown = [] if path.name == "refusals.tftest.hcl" else ["-verbose"]
        done = terraform(path.parent.parent.name, "test", "-json", *shown, f"-filter=tests/{path.name}")
        lines = [without_schemas(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert lines, done.stderr
        return lines

    paths = sorted(terraform.folders.glob("*/tests/*.tftest.hcl"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, paths))
    return {
        folder: [
            message
            for path, lines in zip(paths, found, strict=True)
            if path.parent.parent.name == folder
            for message in lines
        ]
        for folder in FOLDERS
    }


def without_schemas(line: str) -> Resource:
    """The used part of a message. Whole messages fill gigabytes, which the later tests would have to read.

    The providers' schemas are at the end of a plan or state. They are cut off before the line is parsed, which took
    fifteen seconds.
    """
    head, schemas, rest = line.partition(',"provider_schemas":')
    message = json.loads(head + "}" + rest[rest.rindex(',"type":') :] if schemas else line)
    short: Resource = {
        name: message[name] for name in ("type", "@level", "@message", "test_summary") if name in message
    }
    if plan := message.get("test_plan"):
        short["test_plan"] = {"resource_changes": plan.get("resource_changes", [])}
    if state := message.get("test_state"):
        short["test_state"] = {"root_module": {"resources": state.get("root_module", {}).get("resources", [])}}
    return short


@pytest.fixture(scope="session")
def planned(messages: dict[str, list[Resource]]) -> list[Resource]:
    """Every resource that a test plans or, mocked, applies: {"folder", "address", "type", "values", "unknown"}.

    What a plan does not know yet is true in `unknown`.
    """
    resources: list[Resource] = []
    for folder, message in [(name, message) for name in FOLDERS for message in messages[name]]:
        for change in message.get("test_plan", {}).get("resource_changes", []):
            if values := change["change"]["after"]:
                unknown = change["change"]["after_unknown"]
                resources.append(resource(folder, change, values, unknown))
        for found in message.get("test_state", {}).get("root_module", {}).get("resources", []):
            if found["mode"] == "managed":
                resources.append(resource(folder, found, found["values"], {}))
    return resources


@pytest.fixture(scope="session")
def read(messages: dict[str, list[Resource]]) -> list[Resource]:
    """Every data source that a mocked apply reads, its type with `data.` before it."""
    return [
        {**resource(folder, found, found["values"], {}), "type": f"data.{found['type']}"}
        for folder in FOLDERS
        for message in messages[folder]
        for found in message.get("test_state", {}).get("root_module", {}).get("resources", [])
        if found["mode"] == "data"
    ]


def resource(folder: str, found: Resource, values: Resource, unknown: Resource) -> Resource:
    return {
        "folder": folder,
        "address": found["address"],
        "type": found["type"],
        "values": values,
        "unknown": unknown,
    }
