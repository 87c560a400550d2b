"""What the README says works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports

MOST_WORDS = 700


@pytest.fixture(scope="module")
def readme(checkout: Path) -> str:
    return (checkout / "README.md").read_text()


def commands(readme: str) -> list[str]:
    """The commands of its shell blocks, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    return "".join(blocks).replace("\\\n", "").splitlines()


def answer_shown(readme: str) -> dict[str, Any]:
    (shown,) = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    answer: dict[str, Any] = json.loads(shown)
    return answer


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


def test_it_is_short(readme: str) -> None:
    """Counted as `wc -w` counts."""
    assert len(readme.split()) <= MOST_WORDS


def test_every_page_can_be_found_from_it(readme: str, checkout: Path) -> None:
    pages = {f"docs/{page.name}" for page in (checkout / "docs").glob("*.md")}
    assert pages - set(re.findall(r"\]\((docs/[\w-]+\.md)\)", readme)) == set()


def test_no_command_is_left_untried(readme: str) -> None:
    """Each is run below, or in its own tests in tests/pipeline."""
    tried = (
        "make setup",
        "make demo",
        "scripts/package.sh",
        "scripts/publish.sh gs://",
        "scripts/serve.sh",
        "scripts/deploy.sh ",
        "curl ",
    )
    assert [command for command in commands(readme) if not command.startswith(tried)] == []


def test_setup_again_does_nothing(checkout: Path) -> None:
    done = run("make --question setup", checkout)
    if done.returncode == 127:
        pytest.skip("make is not on this machine")
    assert done.returncode == 0, "make setup is out of date"


def test_make_alone_lists_every_target(checkout: Path) -> None:
    done = run("make", checkout)
    if done.returncode == 127:
        pytest.skip("make is not on this machine")
    phony = re.findall(r"^\.PHONY: (.*)", (checkout / "Makefile").read_text(), re.MULTILINE)
    targets = " ".join(phony).split()
    listed = re.findall(r"^  make ([\w-]+) +\S", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(targets)
    assert all(len(line) <= 120 for line in done.stdout.splitlines())


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


def test_its_request_has_an_answer_like_the_one_shown(readme: str, door_url: str, checkout: Path) -> None:
    """tests/serving/test_imagenet_reference.py compares the figures, where the ImageNet weights are there."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    (request,) = [command for command in commands(readme) if "127.0.0.1:8080" in command]
    answer = json.loads(run(request.replace("http://127.0.0.1:8080", door_url), checkout).stdout)
    shown = answer_shown(readme)
    assert answer.keys() == shown.keys()
    ((classes,), (expected,)) = (
        [prediction["classes"] for prediction in each["predictions"]] for each in (answer, shown)
    )
    assert [entry.keys() for entry in classes] == [entry.keys() for entry in expected]
    assert [[type(value) for value in entry.values()] for entry in classes] == [
        [type(value) for value in entry.values()] for entry in expected
    ]


def test_predict_asks_the_same(readme: str, server: TorchServe, checkout: Path) -> None:
    (command,) = re.findall(r"`(scripts/predict\.sh [^`]+)`", readme)
    done = run(f"{command} --url {server.url}", checkout)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r" \d+\.\d\d%", done.stdout)) == 5


def test_the_places_it_names_exist(readme: str, checkout: Path) -> None:
    places = re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE)
    assert len(places) == 12
    assert [place for place in places if not (checkout / place).exists()] == []


def test_the_port_is_the_default(checkout: Path) -> None:
    assert Ports.starting_at(8080).management == 8081
    assert "inference_address=http://0.0.0.0:8080" in (checkout / "config.properties").read_text()
