"""The checks before a deployment changes anything, and the messages if one fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.objects import Object
from pipeline.store.publish import Outcome
from tests.support.api_server import ApiServer
from tests.support.deployments import FAST, ONE, Attempt, Deploy, Heard

pytest_plugins = ["tests.support.deployments"]


def test_a_missing_namespace_is_named(api: ApiServer, refusal: Attempt) -> None:
    assert refusal(namespace="elsewhere") == (
        "there is no namespace elsewhere: kubectl create namespace elsewhere, or choose another --namespace"
    )
    assert api.writes == []


def test_a_namespace_that_cannot_be_read_can_be_deployed_to(api: ApiServer, refusal: Attempt, lines: list[str]) -> None:
    said = 'namespaces "models" is forbidden: User "me" cannot get resource "namespaces" in API group ""'
    api.refuse(403, said, lambda call: call.path == "/api/v1/namespaces/models")
    api.denied = {("create", "services/proxy")}
    assert refusal().startswith("you may not create services/proxy")


@pytest.mark.parametrize("group", ["serving.kserve.io/v1beta1", "serving.kserve.io/v1alpha1"])
def test_a_cluster_without_kserve_is_refused(group: str, api: ApiServer, refusal: Attempt) -> None:
    del api.kinds[group]
    assert refusal().endswith(f"({group}): install KServe 0.15 to 0.21 in it")
    assert api.writes == []


@pytest.mark.parametrize(
    ("controller", "line"),
    [
        ({"image": "kserve/kserve-controller:v0.20.0"}, "KServe       0.20.0"),
        ({"image": "kserve/kserve-controller:v0.15.2@sha256:0123"}, "KServe       0.15.2"),
        ({"image": "registry:5000/kserve-controller:v0.18.0-rc1"}, "KServe       0.18.0"),
        ({"image": "mirror/c@sha256:0", "labels": {"app.kubernetes.io/version": "v0.19.1"}}, "KServe       0.19.1"),
        ({"image": "kserve/kserve-controller:latest"}, "warning: KServe's version is unknown"),
        (None, "warning: KServe's version is unknown"),
        ({"image": "kserve/kserve-controller:v0.22.0"}, "warning: the cluster has KServe 0.22.0, which is newer"),
    ],
    ids=["tag", "tag and digest", "registry with a port", "label", "latest", "not to be seen", "newer"],
)
def test_kserves_version_is_reported(
    controller: Object | None, line: str, api: ApiServer, refusal: Attempt, lines: list[str]
) -> None:
    api.controller = controller
    api.denied = {("create", "services/proxy")}
    assert refusal().startswith("you may not create services/proxy")
    assert lines[1].startswith(line)


def test_without_permission_for_all_namespaces_kserves_version_is_read_in_its_own(
    api: ApiServer, refusal: Attempt, lines: list[str]
) -> None:
    api.refuse(403, "forbidden", lambda call: call.path == "/apis/apps/v1/deployments")
    api.denied = {("create", "services/proxy")}
    refusal()
    assert lines[1] == "KServe       0.20.0"


def test_a_kserve_that_is_too_old_is_refused(api: ApiServer, refusal: Attempt) -> None:
    api.controller = {"image": "kserve/kserve-controller:v0.14.1"}
    assert refusal() == "the cluster has KServe 0.14.1, and 0.15 to 0.21 is needed: upgrade it"
    assert api.writes == []


def test_a_kind_missing_from_the_cluster_is_named(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    manifests = overlays / "standard" / "manifests.yaml"
    monitoring = "apiVersion: monitoring.googleapis.com/v1\nkind: PodMonitoring\nmetadata:\n  name: alexnet\n"
    manifests.write_text(f"{manifests.read_text()}---\n{monitoring}")
    assert refusal().startswith("the cluster does not have PodMonitoring (monitoring.googleapis.com/v1)")
    assert api.writes == []


def use(overlays: Path, mode: str, autoscaler: str = "") -> None:
    """Changes the overlay `standard`."""
    manifests = overlays / "standard" / "manifests.yaml"
    annotations = f"serving.kserve.io/deploymentMode: {mode}\n"
    if autoscaler:
        annotations += f"    serving.kserve.io/autoscalerClass: {autoscaler}\n"
    manifests.write_text(manifests.read_text().replace("serving.kserve.io/deploymentMode: Standard\n", annotations))


def test_missing_knative_is_reported_at_once(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    use(overlays, "Knative")
    del api.kinds["serving.knative.dev/v1"]
    assert refusal() == (
        "the cluster does not have Knative Serving (serving.knative.dev/v1), which this overlay needs: install it "
        "and restart KServe's controller, or choose another --overlay"
    )
    assert api.writes == []


def test_missing_keda_is_reported_at_once(api: ApiServer, refusal: Attempt, overlays: Path) -> None:
    use(overlays, "Standard", "keda")
    del api.kinds["keda.sh/v1alpha1"]
    assert refusal() == (
        "the cluster does not have KEDA (keda.sh/v1alpha1), which sets the number of pods in this overlay: "
        "install it, or use the component autoscaling-hpa instead"
    )
    assert api.writes == []


def without_metrics(api: ApiServer) -> None:
    del api.kinds["metrics.k8s.io/v1beta1"]


def with_metrics_that_do_not_answer(api: ApiServer) -> None:
    said = "the server is currently unable to handle the request"
    api.refuse(503, said, lambda call: call.path == "/apis/metrics.k8s.io/v1beta1")


@pytest.mark.parametrize("lose", [without_metrics, with_metrics_that_do_not_answer])
@pytest.mark.parametrize("autoscaler", ["", "hpa"])
def test_an_autoscaler_without_metrics_gives_a_warning(
    lose: Callable[[ApiServer], None], autoscaler: str, api: ApiServer, deploy: Deploy, heard: Heard, overlays: Path
) -> None:
    use(overlays, "Standard", autoscaler)
    lose(api)
    deploy(ONE)
    assert heard.warned[0] == (
        "the cluster has no pod metrics (metrics.k8s.io/v1beta1), so the number of pods will not change: "
        "install metrics-server"
    )


@pytest.mark.parametrize(
    ("mode", "autoscaler", "needed"),
    [
        ("Standard", "none", None),
        ("Standard", "external", None),
        ("Standard", "keda", "keda.sh/v1alpha1"),
        ("RawDeployment", "hpa", "metrics.k8s.io/v1beta1"),
        ("Knative", "", "serving.knative.dev/v1"),
        ("Serverless", "", "serving.knative.dev/v1"),
    ],
)
def test_no_other_permissions_are_needed(
    mode: str, autoscaler: str, needed: str | None, api: ApiServer, refusal: Attempt, lines: list[str], overlays: Path
) -> None:
    use(overlays, mode, autoscaler)
    for kinds in {"serving.knative.dev/v1", "keda.sh/v1alpha1", "metrics.k8s.io/v1beta1"} - {needed}:
        del api.kinds[kinds]
    api.denied = {("create", "services/proxy")}
    assert refusal().startswith("you may not create services/proxy")
    assert not any("warning" in line for line in lines)


def test_all_missing_permissions_are_named(api: ApiServer, refusal: Attempt) -> None:
    api.denied = {("patch", "inferenceservices"), ("create", "services/proxy"), ("get", "pods/log")}
    assert refusal() == (
        "you may not patch inferenceservices.serving.kserve.io, get pods/log, create services/proxy in namespace "
        "models: ask for a role that allows it"
    )
    assert api.writes == []


def test_it_checks_every_permission_that_it_uses(api: ApiServer, overlays: Path) -> None:
    api.answers[ONE] = 401, {"error": "credentials: missing or invalid"}  # so that there is a second question
    with closing(Cluster()) as cluster:
        Deployment(cluster, overlays, pace=FAST).deploy(ONE)
    reviews = [call.body["spec"]["resourceAttributes"] for call in api.calls if "subjectaccess" in call.path]
    allowed = {(asked["verb"], f"{asked['resource']}/{asked['subresource']}".rstrip("/")) for asked in reviews}
    verbs = {"GET": "get", "PATCH": "patch", "POST": "create", "PUT": "update"}
    for call in api.calls:
        _, inside, rest = call.path.partition("/namespaces/models/")
        if inside:
            plural, *more = rest.split("/")
            verb = "list" if (call.method, more) == ("GET", []) else verbs[call.method]
            assert (verb, f"{plural}/proxy" if "proxy" in more else plural) in allowed


def test_an_incomplete_version_is_not_deployed(
    api: ApiServer, cloud: Any, publish: Callable[..., Outcome], small: dict[str, Path], refusal: Attempt
) -> None:
    uri = publish(small).uri
    cloud.delete(f"{uri.path}/config/config.properties")
    assert refusal(str(uri)) == (
        f"{uri}/config/config.properties is missing: publish the same archive again to restore it"
    )
    assert api.writes == []


def test_a_complete_version_is_reported(
    api: ApiServer,
    cloud: Any,
    publish: Callable[..., Outcome],
    small: dict[str, Path],
    refusal: Attempt,
    lines: list[str],
) -> None:
    uri = publish(small).uri
    api.refuse(500, "stop here", lambda call: call.method == "PATCH")
    refusal(str(uri))
    assert lines[-1].startswith(f"version      {uri} is whole")


def test_an_invalid_storage_uri_is_refused(api: ApiServer, refusal: Attempt) -> None:
    assert refusal("models/one") == "'models/one' is not a storageUri: scripts/publish.sh prints one, gs://… or oci://…"
