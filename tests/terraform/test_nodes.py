"""docs/nodes.md says what terraform/cluster does, and refusals say what to do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.terraform import CHECKOUT, Terraform, said

pytestmark = pytest.mark.timeout(600)

CLUSTER = CHECKOUT / "terraform" / "cluster"
PAGE = (CHECKOUT / "docs" / "nodes.md").read_text()


def pools(text: str) -> list[str]:
    """Each `node_pools` in a text, without spaces."""
    return [re.sub(r"\s+", " ", found) for found in re.findall(r"node_pools = \{.*?\n +\}", text, re.DOTALL)]


def test_a_test_plans_the_pages_pools() -> None:
    tests = (CLUSTER / "tests" / "cluster.tftest.hcl").read_text()
    _, _, run = tests.partition('run "on_demand_is_the_fallback_for_spot"')
    assert pools(PAGE) == pools(run)[:1]


def test_the_page_has_the_shutdown_times() -> None:
    text = (CLUSTER / "node_pools.tf").read_text()
    ((whole, critical, minor),) = re.findall(
        r"shutdown = \{ whole = (\d+), critical = (\d+), since_minor = (\d+) \}", text
    )
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| GKE 1.")]
    assert row.startswith(f"| GKE 1.{minor}.")
    assert f"| {int(whole) - int(critical)} s," in row
    assert row.endswith(f"| {critical} s |")
    variables = (CLUSTER / "variables.tf").read_text()
    assert f"gives pods {int(whole) - int(critical)} s instead of 15" in re.sub(r"\s+", " ", variables)


REFUSALS = {
    ("machine_types", "a_zone_without_the_machines_is_refused"): (
        "node_pools.serving: europe-west4-a has no c3-standard-4. In europe-west4 these have it: "
        "europe-west4-b, europe-west4-c. Set location, or the pool's zones."
    ),
    ("machine_types", "machines_that_the_region_does_not_have_are_refused"): (
        "node_pools.serving: europe-west4-b has no c3d-standard-4. "
        "No zone of europe-west4 has it: choose another machine_type, or another location."
    ),
    ("machine_types", "an_arm64_machine_is_refused"): (
        "node_pools.serving: c4a-standard-4 is an arm64 machine, and the serving image is built and tested only "
        "for x86-64: choose an x86-64 machine_type, such as c3-standard-4."
    ),
    ("refusals", "a_long_shutdown_before_gke_1_35_is_refused"): (
        "node_pools.serving: GKE lengthens the shutdown of spot nodes from 1.35 on, and the cluster has "
        "1.34.1-gke.3971001: upgrade it, or set long_shutdown = false and add kserve/components/short-shutdown"
    ),
}


@pytest.mark.parametrize(("file", "run"), REFUSALS, ids=[run for _, run in REFUSALS])
def test_a_refusal_says_what_to_do(file: str, run: str, terraform: Terraform, tmp_path: Path) -> None:
    """A run of terraform's own tests, without what it expects."""
    shutil.copytree(terraform.folders / "cluster", tmp_path / "folder", symlinks=True)
    shutil.rmtree(tmp_path / "folder" / "tests")
    (tmp_path / "folder" / "tests").mkdir()
    head, *runs = re.split(r'^(?=run ")', (CLUSTER / "tests" / f"{file}.tftest.hcl").read_text(), flags=re.MULTILINE)
    (chosen,) = [text for text in runs if text.startswith(f'run "{run}"')]
    tried = re.sub(r"^  expect_failures = .*$", "", chosen, flags=re.MULTILINE)
    (tmp_path / "folder" / "tests" / "tried.tftest.hcl").write_text(head + tried)
    told = said(terraform(tmp_path / "folder", "test", "-no-color"))
    assert "0 passed, 1 failed" in told
    assert REFUSALS[file, run] in told
