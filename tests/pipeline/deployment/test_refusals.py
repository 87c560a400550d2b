"""The messages if the API server does not answer, or refuses, before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.shared.ports import free_ports
from tests.support.api_server import ApiServer, Call, write_kube_config
from tests.support.deployments import Attempt

pytest_plugins = ["tests.support.deployments"]


LOGIN = "run gcloud auth login, then gcloud container clusters get-credentials"


def test_a_cluster_that_does_not_answer_is_named(
    tmp_path: Path, refusal: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("KUBECONFIG", str(write_kube_config(tmp_path / "kube-config", url)))
    assert refusal().startswith(
        f"the cluster of context test does not answer at {url} (connection refused): check that it is running"
    )


def test_a_cluster_whose_name_cannot_be_resolved_is_named(
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


@pytest.mark.parametrize("verb", ["GET", "PATCH"])
def test_a_refusal_despite_the_checks_is_named(verb: str, api: ApiServer, refusal: Attempt) -> None:
    said = (
        'servingruntimes.serving.kserve.io "alexnet-torchserve" is forbidden: User "me" cannot patch resource '
        '"servingruntimes" in API group "serving.kserve.io" in the namespace "models"'
    )
    api.refuse(403, said, lambda call: call.method == verb and "/servingruntimes/" in call.path)
    assert refusal() == (
        "you may not patch servingruntimes.serving.kserve.io in namespace models: ask for a role that allows it"
    )


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
            "see kubectl -n kserve get pods, and wait until KServe is running",
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
def test_a_refusal_is_known_before_anything_changes(
    status: int, said: str, sentence: str, api: ApiServer, refusal: Attempt
) -> None:
    def is_hit(call: Call) -> bool:
        return call.method == "PATCH" and "/inferenceservices/" in call.path

    api.refuse(status, said, is_hit)
    assert refusal() == sentence
    assert api.writes == []
