"""Overlays that cannot be deployed, and what renders them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from tests.support.api_server import ApiServer
from tests.support.deployments import FAST, ONE, Attempt

pytest_plugins = ["tests.support.deployments"]


def test_an_overlay_that_is_not_there_is_named_with_those_that_are(api: ApiServer, refusal: Attempt) -> None:
    assert refusal(overlay="stander") == "there is no overlay stander: choose one of standard, stock-runtime"
    assert api.calls == []


def test_the_placeholder_of_an_image_is_not_deployed(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    placeholder = "REGION-docker.pkg.dev/PROJECT/alexnet/alexnet-torchserve:0.1.0"
    manifests.write_text(manifests.read_text().replace("registry.example/alexnet:1", placeholder))
    assert refusal() == (
        f"{placeholder} is the placeholder of an image: give --image, or edit "
        f"{overlays.parent.name}/{overlays.name}/standard/kustomization.yaml"
    )
    assert api.calls == []


def test_an_overlay_that_cannot_be_rendered_is_named(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    (overlays / "standard" / "kustomization.yaml").write_text("resources: [nothing.yaml]")
    sentence = refusal()
    assert sentence.startswith("overlay standard cannot be rendered: ")
    assert "nothing.yaml" in sentence


def test_without_anything_that_renders_it_says_so(
    api: ApiServer, refusal: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal().startswith("neither kubectl nor kustomize is installed")


def test_kustomize_renders_where_there_is_no_kubectl(
    api: ApiServer, overlays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    tool = tools / "kustomize"
    tool.write_text('#!/bin/sh\n[ "$1" = build ] && while read -r line; do echo "$line"; done <"$2/rendered.yaml"\n')
    tool.chmod(0o755)
    (overlays / "standard" / "rendered.yaml").write_text(
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: alexnet}, "
        "spec: {predictor: {model: {storageUri: x}}}}\n"
    )
    monkeypatch.setenv("PATH", str(tools))
    with closing(Cluster()) as cluster:
        Deployment(cluster, overlays, pace=FAST).deploy(ONE)
    assert api.applied == ["InferenceService"]
