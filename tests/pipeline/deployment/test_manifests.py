"""Overlays that cannot be deployed, and what renders them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from tests.support.api_server import ApiServer
from tests.support.deployments import FAST, ONE, Attempt, reason

pytest_plugins = ["tests.support.deployments"]


def test_a_missing_overlay_is_named_with_the_existing_ones(api: ApiServer, refusal: Attempt) -> None:
    assert refusal(overlay="stander") == "there is no overlay stander: choose one of standard, stock-runtime"
    assert api.calls == []


def test_a_placeholder_for_an_image_is_not_deployed(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    placeholder = "REGION-docker.pkg.dev/PROJECT/alexnet/alexnet-torchserve:1"
    manifests.write_text(manifests.read_text().replace("registry.example/alexnet:1", placeholder))
    assert refusal() == (
        f"{placeholder} is a placeholder for an image: give --image, or edit "
        f"{overlays.parent.name}/{overlays.name}/standard/kustomization.yaml"
    )
    assert api.calls == []


def test_an_overlay_that_cannot_be_rendered_is_named(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    (overlays / "standard" / "kustomization.yaml").write_text("resources: [nothing.yaml]")
    sentence = refusal()
    assert sentence.startswith("overlay standard cannot be rendered: ")
    assert "nothing.yaml" in sentence


def test_without_a_program_to_render_it_says_so(
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


@pytest.fixture
def restricted(api: ApiServer, overlays: Path) -> str:
    """An overlay that makes a namespace restricted, and belongs in it."""
    api.namespaces.add("guarded")
    (overlays / "restricted").mkdir()
    (overlays / "restricted" / "kustomization.yaml").write_text(
        "namespace: guarded\nresources: [../standard, namespace.yaml]\n"
    )
    (overlays / "restricted" / "namespace.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\n"
        "metadata: {name: guarded, labels: {pod-security.kubernetes.io/enforce: restricted}}\n"
    )
    return "restricted"


def test_an_overlay_with_its_own_namespace_is_not_deployed_into_another(
    api: ApiServer, refusal: Attempt, restricted: str, overlays: Path
) -> None:
    """Its settings for its own namespace would not apply there."""
    sentence = (
        "overlay restricted is for namespace guarded, not models, where its settings for guarded would not apply: "
        "give --namespace guarded, or edit the overlay"
    )
    assert refusal(overlay=restricted) == sentence
    with closing(Cluster()) as cluster:
        assert reason(lambda: Deployment(cluster, overlays, pace=FAST).delete(restricted)) == sentence
    assert api.writes == []


def test_it_can_be_deployed_into_its_own(api: ApiServer, restricted: str, overlays: Path) -> None:
    with closing(Cluster("guarded")) as cluster:
        Deployment(cluster, overlays, pace=FAST).deploy(ONE, restricted)
    assert api.applied == ["Namespace", "ServiceAccount", "ServingRuntime", "InferenceService"]
    namespaces = [
        found["metadata"].get("namespace") for found in (call.body for call in api.writes if not call.is_record)
    ]
    assert namespaces == [None, "guarded", "guarded", "guarded"]


def test_an_earlier_deployment_elsewhere_can_still_be_removed(api: ApiServer, restricted: str, overlays: Path) -> None:
    kustomization = overlays / restricted / "kustomization.yaml"
    with closing(Cluster()) as cluster:
        deployment = Deployment(cluster, overlays, pace=FAST)
        chosen = kustomization.read_text()
        kustomization.write_text(chosen.replace("namespace: guarded\n", ""))
        deployment.deploy(ONE, restricted)
        kustomization.write_text(chosen)
        deployment.delete()
    assert [plural for plural, _ in api.objects] == ["namespaces"]
