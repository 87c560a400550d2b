"""What is checked before a deployment changes anything, and what is said where a check fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.pace import Pace
from pipeline.deployment.voice import Voice
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import free_ports
from tests.support.api_server import TOKEN, ApiServer, Call, write_kube_config

pytest_plugins = ["tests.support.api_server"]

URI = "pvc://models/one"
LOGIN = "run gcloud auth login, then gcloud container clusters get-credentials"

Attempt = Callable[..., str]


@pytest.fixture
def lines() -> list[str]:
    """What a deployment says while it checks, warnings too."""
    return []


@pytest.fixture
def refusal(overlays: Path, lines: list[str], user_environment: None) -> Attempt:
    """The line with which a deployment fails."""

    def attempt(uri: str = URI, overlay: str = "standard", namespace: str | None = None) -> str:
        voice = Voice(lines.append, lambda line: lines.append(f"warning: {line}"))
        with pytest.raises(PipelineError) as raised, closing(Cluster(namespace)) as cluster:
            Deployment(cluster, overlays, voice, Pace(30, 0.001)).deploy(uri, overlay)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return attempt


# --- The kube config --------------------------------------------------------------------------------------------------


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
    changes: dict[str, Any], sentence: str, api: ApiServer, tmp_path: Path, refusal: Attempt
) -> None:
    write_kube_config(tmp_path / "kube-config", api.url, **changes)
    assert sentence in refusal()
    assert api.calls == []


@pytest.mark.parametrize("content", ["", "{", "[]", "a: b"], ids=["empty", "no YAML", "a list", "something else"])
def test_a_file_that_is_no_kube_config_is_named(
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


# --- The API server ---------------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_named(
    tmp_path: Path, refusal: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("KUBECONFIG", str(write_kube_config(tmp_path / "kube-config", url)))
    assert refusal().startswith(
        f"the cluster of context test does not answer at {url} (connection refused): check that it runs"
    )


def test_a_cluster_whose_name_is_not_known_is_named(
    tmp_path: Path, refusal: Attempt, monkeypatch: pytest.MonkeyPatch, user_environment: None
) -> None:
    file = write_kube_config(tmp_path / "kube-config", "https://cluster.invalid")
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert "does not answer at https://cluster.invalid (its name cannot be resolved)" in refusal()


def test_credentials_that_have_expired_are_renewed_by_the_user(
    api: ApiServer, tmp_path: Path, refusal: Attempt
) -> None:
    write_kube_config(tmp_path / "kube-config", api.url, {"token": "old"})
    assert refusal().startswith(f"the cluster does not accept your credentials (expired, or none): {LOGIN}")


def test_a_namespace_that_is_not_there_is_named(api: ApiServer, refusal: Attempt) -> None:
    assert refusal(namespace="elsewhere") == (
        "there is no namespace elsewhere: kubectl create namespace elsewhere, or choose another --namespace"
    )
    assert api.writes == []


def test_a_namespace_that_one_may_not_see_may_be_worked_in(api: ApiServer, refusal: Attempt, lines: list[str]) -> None:
    said = 'namespaces "models" is forbidden: User "me" cannot get resource "namespaces" in API group ""'
    api.refuse(403, said, lambda call: call.path == "/api/v1/namespaces/models")
    api.denied = {("create", "services/proxy")}
    assert refusal().startswith("you may not create services/proxy")


# --- KServe -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["serving.kserve.io/v1beta1", "serving.kserve.io/v1alpha1"])
def test_a_cluster_without_kserve_is_said(group: str, api: ApiServer, refusal: Attempt) -> None:
    del api.kinds[group]
    assert refusal().endswith(f"({group}): install KServe 0.15 to 0.20 in it")
    assert api.writes == []


@pytest.mark.parametrize(
    ("controller", "line"),
    [
        ({"image": "kserve/kserve-controller:v0.20.0"}, "KServe       0.20.0"),
        ({"image": "kserve/kserve-controller:v0.15.2@sha256:0123"}, "KServe       0.15.2"),
        ({"image": "registry:5000/kserve-controller:v0.18.0-rc1"}, "KServe       0.18.0"),
        ({"image": "mirror/c@sha256:0", "labels": {"app.kubernetes.io/version": "v0.19.1"}}, "KServe       0.19.1"),
        ({"image": "kserve/kserve-controller:latest"}, "warning: KServe's version cannot be told"),
        (None, "warning: KServe's version cannot be told"),
        ({"image": "kserve/kserve-controller:v0.21.0"}, "warning: the cluster has KServe 0.21.0, which is younger"),
    ],
    ids=["tag", "tag and digest", "registry with a port", "label", "latest", "not to be seen", "younger"],
)
def test_kserves_version_is_told(
    controller: dict[str, Any] | None, line: str, api: ApiServer, refusal: Attempt, lines: list[str]
) -> None:
    api.controller = controller
    api.denied = {("create", "services/proxy")}
    assert refusal().startswith("you may not create services/proxy")
    assert lines[1].startswith(line)


def test_kserves_version_is_looked_for_where_it_usually_is_when_one_may_not_look_everywhere(
    api: ApiServer, refusal: Attempt, lines: list[str]
) -> None:
    api.refuse(403, "forbidden", lambda call: call.path == "/apis/apps/v1/deployments")
    api.denied = {("create", "services/proxy")}
    refusal()
    assert lines[1] == "KServe       0.20.0"


def test_a_kserve_that_is_too_old_is_refused(api: ApiServer, refusal: Attempt) -> None:
    api.controller = {"image": "kserve/kserve-controller:v0.14.1"}
    assert refusal() == "the cluster has KServe 0.14.1, and 0.15 to 0.20 is needed: upgrade it"
    assert api.writes == []


def test_a_kind_that_the_cluster_does_not_have_is_named(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    monitoring = "apiVersion: monitoring.googleapis.com/v1\nkind: PodMonitoring\nmetadata:\n  name: alexnet\n"
    manifests.write_text(f"{manifests.read_text()}---\n{monitoring}")
    assert refusal().startswith("the cluster does not have PodMonitoring (monitoring.googleapis.com/v1)")
    assert api.writes == []


# --- Permissions ------------------------------------------------------------------------------------------------------


def test_all_permissions_that_are_missing_are_named(api: ApiServer, refusal: Attempt) -> None:
    api.denied = {("patch", "inferenceservices"), ("create", "services/proxy"), ("get", "pods/log")}
    assert refusal() == (
        "you may not patch inferenceservices.serving.kserve.io, get pods/log, create services/proxy in namespace "
        "models: ask for a role that allows it"
    )
    assert api.writes == []


def test_whatever_it_does_was_asked_for_before(api: ApiServer, overlays: Path) -> None:
    with closing(Cluster()) as cluster:
        Deployment(cluster, overlays, pace=Pace(30, 0.001)).deploy(URI)
    reviews = [call.body["spec"]["resourceAttributes"] for call in api.calls if "subjectaccess" in call.path]
    allowed = {(asked["verb"], f"{asked['resource']}/{asked['subresource']}".rstrip("/")) for asked in reviews}
    verbs = {"GET": "get", "PATCH": "patch", "POST": "create"}
    for call in api.calls:
        _, inside, rest = call.path.partition("/namespaces/models/")
        if inside:
            plural, *more = rest.split("/")
            verb = verbs[call.method] if more else "list"
            assert (verb, f"{plural}/proxy" if "proxy" in more else plural) in allowed


@pytest.mark.parametrize("verb", ["GET", "PATCH"])
def test_what_is_forbidden_all_the_same_is_named(verb: str, api: ApiServer, refusal: Attempt) -> None:
    said = (
        'servingruntimes.serving.kserve.io "alexnet-torchserve" is forbidden: User "me" cannot patch resource '
        '"servingruntimes" in API group "serving.kserve.io" in the namespace "models"'
    )
    api.refuse(403, said, lambda call: call.method == verb and "/servingruntimes/" in call.path)
    assert refusal() == (
        "you may not patch servingruntimes.serving.kserve.io in namespace models: ask for a role that allows it"
    )


# --- What the API server checks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        (
            403,
            'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: min > max',
            "alexnet (inferenceservices) is refused by the admission webhook "
            "inferenceservice.kserve-webhook-server.validator: min > max",
        ),
        (
            500,
            'Internal error occurred: failed calling webhook "inferenceservice.kserve": connection refused',
            "the admission webhook inferenceservice.kserve does not answer (connection refused): "
            "see kubectl -n kserve get pods, and wait until KServe runs",
        ),
        (
            403,
            'inferenceservices "alexnet" is forbidden: exceeded quota: few, requested: count=1, limited: count=0',
            "alexnet (inferenceservices): exceeded quota: few, requested: count=1, limited: count=0: "
            "free some, or have the quota raised",
        ),
        (
            422,
            "InferenceService is invalid: spec: Required value",
            "PATCH /apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices/alexnet: "
            "the API server refuses (422): InferenceService is invalid: spec: Required value",
        ),
    ],
    ids=["webhook", "webhook that is down", "quota", "invalid"],
)
def test_what_would_be_refused_is_known_before_anything_is_changed(
    status: int, said: str, sentence: str, api: ApiServer, refusal: Attempt
) -> None:
    def is_hit(call: Call) -> bool:
        return call.method == "PATCH" and "/inferenceservices/" in call.path

    api.refuse(status, said, is_hit)
    assert refusal() == sentence
    assert api.writes == []


# --- The version ------------------------------------------------------------------------------------------------------


def test_a_version_that_is_not_whole_is_not_deployed(
    api: ApiServer, cloud: Any, publish: Callable[..., Any], small: Any, refusal: Attempt
) -> None:
    uri = publish(small).uri
    cloud.delete(f"{uri.path}/config/config.properties")
    assert refusal(str(uri)) == (
        f"{uri}/config/config.properties is missing: publish the same archive again to have it back"
    )
    assert api.writes == []


def test_a_version_that_is_whole_is_said_to_be(
    api: ApiServer, cloud: Any, publish: Callable[..., Any], small: Any, refusal: Attempt, lines: list[str]
) -> None:
    uri = publish(small).uri
    api.refuse(500, "stop here", lambda call: call.method == "PATCH")
    refusal(str(uri))
    assert lines[-1].startswith(f"version      {uri} is whole")


def test_what_is_no_storage_uri_is_refused(api: ApiServer, refusal: Attempt) -> None:
    assert refusal("models/one") == "'models/one' is not a storageUri: scripts/publish.sh prints one, gs://…"


# --- The overlay ------------------------------------------------------------------------------------------------------


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
        Deployment(cluster, overlays, pace=Pace(30, 0.001)).deploy(URI)
    assert api.applied == ["InferenceService"]
