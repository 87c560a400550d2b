"""Connecting to the cluster of the current kube context, and the messages if that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.deployment.objects import Object
from tests.support.api_server import TOKEN, ApiServer, write_kube_config
from tests.support.deployments import Attempt

pytest_plugins = ["tests.support.deployments"]


def test_without_a_kube_config_it_says_how_to_get_one(refusal: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert refusal() == (
        "no kube config at /nowhere/config: run gcloud container clusters get-credentials CLUSTER --location LOCATION"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"current-context": "gone"}, "has no context gone: choose another with kubectl config use-context"),
        ({"current-context": ""}, "has no current context: choose one with kubectl config use-context"),
        ({"clusters": []}, "cannot be used"),
    ],
    ids=["not there", "none", "no cluster"],
)
def test_a_context_that_cannot_be_used_is_named(
    changes: Object, sentence: str, api: ApiServer, tmp_path: Path, refusal: Attempt
) -> None:
    write_kube_config(tmp_path / "kube-config", api.url, **changes)
    assert sentence in refusal()
    assert api.calls == []


@pytest.mark.parametrize("content", ["", "{", "[]", "a: b"], ids=["empty", "no YAML", "a list", "something else"])
def test_a_file_that_is_not_a_kube_config_is_named(
    content: str, tmp_path: Path, refusal: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kube-config"
    file.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert refusal().startswith(f"the kube config {file} ")


def test_a_credentials_plugin_that_is_not_installed_is_named(
    api: ApiServer, tmp_path: Path, refusal: Attempt, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "gke-gcloud-auth-plugin-x"}
    write_kube_config(tmp_path / "kube-config", api.url, {"exec": plugin | {"interactiveMode": "Never"}})
    sentence = refusal()
    assert sentence.startswith("the kube config's credentials plugin failed (")
    assert "gke-gcloud-auth-plugin-x" in sentence
    assert capfd.readouterr() == ("", "")


def test_the_credentials_of_a_plugin_are_used(api: ApiServer, tmp_path: Path, refusal: Attempt) -> None:
    plugin = tmp_path / "plugin"
    answer = (
        f'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{TOKEN}"}}}}'
    )
    plugin.write_text(f"#!/bin/sh\necho '{answer}'\n")
    plugin.chmod(0o755)
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    write_kube_config(tmp_path / "kube-config", api.url, {"exec": command})
    api.denied = {("create", "services/proxy")}
    assert "you may not create services/proxy" in refusal()
