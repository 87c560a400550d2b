"""The version stands in pyproject.toml; whoever repeats it, since it cannot read it there, says the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
VERSION: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
TAG = re.compile(r"alexnet-torchserve:(v?\d[\w.-]*)")
REPEATED_IN = {
    "kserve/README.md",
    "kserve/overlays/kind/README.md",
    "kserve/overlays/kind/upload.yaml",
    "kserve/runtime/serving-runtime.yaml",
    "terraform/cluster/outputs.tf",
}


def test_every_tag_of_the_image_is_the_version() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone: git does not know which files are the project's")
    found: dict[str, set[str]] = {}
    for name in listed.stdout.split("\0"):
        file = CHECKOUT / name
        if name and not name.startswith("tests/") and file.is_file():  # tests have images of their own
            tags = set(TAG.findall(file.read_text(encoding="utf-8", errors="replace")))
            found |= {name: tags} if tags else {}
    assert found == {name: {VERSION} for name in REPEATED_IN}


@pytest.mark.parametrize("overlay", ["gpu", "knative", "standard"])
def test_the_overlays_take_the_image_of_the_version(overlay: str) -> None:
    (image,) = yaml.safe_load((CHECKOUT / "kserve/overlays" / overlay / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == VERSION


def test_google_cloud_builds_the_version() -> None:
    substitutions = yaml.safe_load((CHECKOUT / "kserve/runtime/cloudbuild.yaml").read_text())["substitutions"]
    assert substitutions["_VERSION"] == VERSION
    assert substitutions["_IMAGE"].endswith("/alexnet-torchserve:${_VERSION}")


def test_make_builds_the_version() -> None:
    done = subprocess.run(["make", "-n", "image"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert f"--tag alexnet-torchserve:{VERSION} " in done.stdout
    assert f"--build-arg VERSION={VERSION} " in done.stdout


def test_make_builds_for_the_processor_of_the_nodes() -> None:
    """On Apple silicon, docker builds for arm64 unless told: an image that ends on a node with `exec format error`."""
    done = subprocess.run(["make", "-n", "image"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert " build --platform linux/amd64 " in done.stdout
