"""A release is named by its image, as given, and the archive's version, both in the cluster and in GET /."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from pipeline.deployment.objects import Object
from tests.support.api_server import ApiServer
from tests.support.deployments import ONE, Deploy, Heard, Make

pytest_plugins = ["tests.support.deployments"]

DIGEST = "registry.example/alexnet@sha256:" + "0" * 64
BOTH = "registry.example/alexnet:2@sha256:" + "0" * 64
VERSION = "pvc://models/0123456789ab"
IMAGE_OF, VERSION_OF = "torchserve-alexnet/image", "torchserve-alexnet/version"


def release(service: Object) -> tuple[str | None, str | None]:
    annotations = service["metadata"]["annotations"]
    return annotations.get(IMAGE_OF), annotations.get(VERSION_OF)


@pytest.mark.parametrize("image", [DIGEST, BOTH, "registry.example/alexnet:2"])
def test_the_service_names_the_image_and_the_version(image: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(VERSION, image=image)
    assert release(api.service) == (image, "0123456789ab")


@pytest.mark.parametrize("uri", ["pvc://alexnet-models", "pvc://models/0123456789abc", "pvc://models/next"])
def test_a_path_without_a_version_is_not_given_one(uri: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(uri)
    assert release(api.service) == ("registry.example/alexnet:1", None)


def test_a_slash_at_the_end_makes_no_difference(api: ApiServer, deploy: Deploy) -> None:
    deploy(f"{VERSION}/")
    assert release(api.service)[1] == "0123456789ab"


def test_kserves_own_runtime_has_no_named_image(api: ApiServer, deploy: Deploy) -> None:
    deploy(VERSION, "stock-runtime")
    assert release(api.service) == (None, "0123456789ab")


def test_a_rollback_restores_both_names(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(VERSION, image=DIGEST)
    deploy("pvc://models/ba9876543210", image=BOTH)
    make().roll_back()
    assert release(api.service) == (DIGEST, "0123456789ab")
    deploy(ONE, "stock-runtime")
    assert release(api.service) == (None, None)


@pytest.mark.parametrize(
    ("image", "moves"),
    [
        ("registry.example/alexnet:2", True),
        ("localhost:5000/alexnet:2", True),
        (DIGEST, False),
        (BOTH, False),
        ("alexnet-torchserve:1", False),  # on the node: never pulled
    ],
)
def test_a_line_says_that_a_registrys_tag_can_move(image: str, moves: bool, deploy: Deploy, heard: Heard) -> None:
    deploy(ONE, image=image)
    line = f"image        {image}: a tag can be moved to another image, a digest (NAME@sha256:…) cannot"
    assert [said for said in heard.said if said.startswith("image")] == [line] * moves


def test_kubectl_shows_both_as_the_page_says(tmp_path: Path, checkout: Path) -> None:
    page = (checkout / "kserve" / "README.md").read_text()
    assert f"IMAGE:.metadata.annotations.{IMAGE_OF},VERSION:.metadata.annotations.{VERSION_OF}" in page
    file = tmp_path / "object.json"
    metadata = {"name": "a", "annotations": {IMAGE_OF: DIGEST, VERSION_OF: "0123456789ab"}}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
    path = f"jsonpath={{.metadata.annotations.{IMAGE_OF}}} {{.metadata.annotations.{VERSION_OF}}}"
    shown = subprocess.run(
        ["kubectl", "annotate", "--local", "--filename", file, "--output", path, "any=thing"],
        env=os.environ | {"KUBECONFIG": os.devnull},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shown.stdout == f"{DIGEST} 0123456789ab"
