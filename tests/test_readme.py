"""What the README says works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.artefact.model import read_model
from pipeline.deployment.kserve_versions import SUPPORTED
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports


@pytest.fixture(scope="module")
def readme(checkout: Path) -> str:
    return (checkout / "README.md").read_text()


def commands(readme: str) -> list[str]:
    """The commands of its shell blocks, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    return re.sub(r"\|\n +", "| ", "".join(blocks)).splitlines()


def run(command: str, checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=checkout,
        env=os.environ | {"NO_PROXY": "127.0.0.1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_command_is_left_untried(readme: str) -> None:
    """Each is tried below, or in tests of its own in tests/pipeline."""
    tried = (
        "make setup",
        "make demo",
        "scripts/package.sh",
        "scripts/publish.sh gs://",
        "scripts/serve.sh",
        "scripts/deploy.sh ",
        "scripts/predict.sh ",
        "printf ",
        "curl ",
    )
    assert [command for command in commands(readme) if not command.startswith(tried)] == []


def test_setup_again_does_nothing(checkout: Path) -> None:
    done = run("make --question setup", checkout)
    if done.returncode == 127:
        pytest.skip("make is not on this machine")
    assert done.returncode == 0, "make setup is out of date"


@pytest.mark.slow
def test_the_demo_shows_a_prediction_and_leaves_nothing(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("t")
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9") | {
        "NO_PROXY": ""
    }  # nobody listens there
    done = run("make demo", checkout, TMPDIR=str(scratch), **proxies)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("✓")] == [
        "package",
        "publish",
        "pull",
        "serve",
        "predict",
        "stop",
    ]
    steps = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("✓")}
    (version,) = re.findall(r"version ([0-9a-f]{12})\b", steps["package"])
    assert all(version in steps[step] for step in ("publish", "pull", "serve"))
    assert len(re.findall(r" \d+\.\d\d%", done.stdout)) == 5
    assert list(scratch.iterdir()) == []


def test_the_requests(readme: str, server: TorchServe, checkout: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    asked = [command for command in commands(readme) if "127.0.0.1:8080" in command]
    assert len(asked) == 2
    answers = [run(command.replace("http://127.0.0.1:8080", server.url), checkout).stdout for command in asked]
    two, five = (json.loads(answer)["predictions"][0]["classes"] for answer in answers)
    assert (len(two), len(five)) == (2, 5)
    assert two == five[:2]
    (shown,) = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    assert json.loads(shown)["predictions"][0]["classes"][0].keys() == two[0].keys()


def test_its_model_file_is_one(readme: str, tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "pets.yaml").write_text(text)
    model = read_model(tmp_path / "pets.yaml")
    assert (model.name, [label for _, label in model.classes]) == ("pets", ["abyssinian", "beagle"])


def test_predict(readme: str, server: TorchServe, checkout: Path) -> None:
    (command,) = [command for command in commands(readme) if command.startswith("scripts/predict.sh")]
    done = run(f"{command} --url {server.url}", checkout)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r" \d+\.\d\d%", done.stdout)) == 5


def test_the_limits_it_names_are_the_settings(readme: str, checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    limits = settings["handler"]["limits"]
    named = f"more than {limits['max_image_bytes'] >> 20} MiB, {limits['max_pixels'] // 10**6} million pixels or "
    assert named + f"{limits['max_instances']} instances" in readme
    assert settings["batchSize"] == 16
    assert "of up to sixteen" in readme


def test_the_places_it_names_exist(readme: str, checkout: Path) -> None:
    places = re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE)
    assert len(places) == 14
    assert [place for place in places if not (checkout / place).exists()] == []


def test_what_it_says_of_a_cluster_is_so(readme: str, checkout: Path) -> None:
    section = readme.partition("## On a cluster")[2].partition("\n## ")[0]
    overlays = re.findall(r"`([\w-]+)`", section.partition("takes another of the overlays")[2].partition(";")[0])
    assert sorted(overlays) == sorted(
        found.parent.name for found in checkout.glob("kserve/overlays/*/kustomization.yaml")
    )
    (drain,) = re.findall(r'"DRAIN_AT_MOST_S", (\d+)\)', (checkout / "kserve/runtime/server/drain.py").read_text())
    assert f"until nobody is connected, {drain} s at most" in " ".join(section.split())
    assert f"KServe {SUPPORTED}" in section


def test_the_port_is_the_default(checkout: Path) -> None:
    assert Ports.starting_at(8080).management == 8081
    assert "inference_address=http://0.0.0.0:8080" in (checkout / "config.properties").read_text()
