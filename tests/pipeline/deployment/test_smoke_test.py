"""One request to a service that is ready: what counts as an answer, and what happens without one."""

from __future__ import annotations

import dataclasses
import re
import threading

import pytest

from pipeline.shared.checkout import CHECKOUT
from tests.support.api_server import URL, ApiServer, Call
from tests.support.deployments import FAST, ONE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]


WRONG = {
    "error": (
        (500, {"error": "out of memory"}),
        "ready, but the model does not answer predictions (500: out of memory)",
    ),
    "busy": ((503, {"error": "busy"}), "ready, but the model does not answer predictions (503: busy)"),
    "another model": ((200, {"predictions": [[0.1]]}), "ready, but the answer is not this model's"),
    "no JSON": ((200, "<html>"), "ready, but the answer is not this model's"),
    "JSON without end": ((200, "[" * 100_000), "ready, but the answer is not this model's"),
    "no classes": ((200, {"predictions": [{"classes": []}]}), "ready, but the answer is not this model's"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_service_that_answers_wrongly_is_rolled_back(name: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.answers[TWO], sentence = WRONG[name]
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(sentence)
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uri == ONE


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        ("/v1/models/alexnet:predict", "the model does not answer predictions"),
        ("/v1/models/alexnet", "the model does not report that it is ready"),
    ],
)
def test_a_model_that_does_not_answer_is_rolled_back(
    route: str, sentence: str, api: ApiServer, deploy: Deploy, make: Make
) -> None:
    deploy(ONE)
    api.answers[TWO] = 401, {"error": "credentials: missing or invalid"}
    over = threading.Event()

    def be_silent(call: Call) -> None:
        if call.path.endswith(f"/proxy{route}") and api.storage_uri == TWO:
            over.wait(30)

    api.trouble = be_silent
    pace = dataclasses.replace(FAST, answer=(5, 0.2))
    failed = reason(lambda: make(pace).deploy(TWO))
    over.set()
    assert failed == f"ready, but {sentence} within 0.2 s; rolled back to {ONE}, which is ready again"
    assert api.storage_uri == ONE


def test_a_service_that_only_the_api_server_cannot_reach_is_not_rolled_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    said = "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout"
    api.answers[TWO] = 503, {"kind": "Status", "message": said}
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(f"ready, but the API server cannot reach it ({said}): a NetworkPolicy")
    assert f"apply InferenceService alexnet with {TWO}" in failed
    assert api.storage_uri == TWO


# The front door's answers with the components api-keys or jwt.
DOOR = (CHECKOUT / "kserve" / "runtime" / "envoy.yaml").read_text()
WANTS_CREDENTIALS = {
    int(status): {"error": sentence} for status, sentence in re.findall(r'^ *\((401|403), .*, "(.*)"\),$', DOOR, re.M)
}


def test_the_door_answers_as_these_tests_assume() -> None:
    assert WANTS_CREDENTIALS == {
        401: {"error": "credentials: missing or invalid"},
        403: {"error": "credentials: not allowed here"},
    }


@pytest.mark.parametrize("status", WANTS_CREDENTIALS)
def test_a_service_that_requires_credentials_is_asked_whether_its_model_answers(
    status: int, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.answers[ONE] = status, WANTS_CREDENTIALS[status]
    assert deploy(ONE) == URL
    asked = [(call.method, call.path.partition("/proxy")[2]) for call in api.calls if "/proxy/" in call.path]
    assert asked == [("POST", "/v1/models/alexnet:predict"), ("GET", "/v1/models/alexnet")]
    assert heard.said[-2] == (
        "ready        the model says so; no prediction was tried, since the service requires credentials"
    )
    assert not any("predicted" in line for line in heard.said)


def test_so_is_one_in_knative_mode(api: ApiServer, deploy: Deploy) -> None:
    api.mode = "Knative"
    api.answers[ONE] = 401, WANTS_CREDENTIALS[401]
    assert deploy(ONE)


NOT_READY = {
    "silent": (
        (503, {"error": "model: not ready: the model does not answer"}),
        "ready, but the model does not report that it is ready (503: model: not ready: the model does not answer)",
    ),
    "older": (
        (401, {"error": "credentials: missing or invalid"}),
        "ready, but the model does not report that it is ready (401: credentials: missing or invalid)",
    ),
    "not there": (
        (404, {"error": "path: there is nothing here"}),
        "ready, but the model does not report that it is ready (404: path: there is nothing here)",
    ),
    "not yet": ((200, {"name": "alexnet", "ready": False}), "ready, but the answer is not this model's"),
    "in another form": ((200, {"name": "alexnet", "ready": "True"}), "ready, but the answer is not this model's"),
    "another": ((200, {"name": "resnet", "ready": True}), "ready, but the answer is not this model's"),
    "a page": ((200, "<html>"), "ready, but the answer is not this model's"),
}


@pytest.mark.parametrize("name", NOT_READY)
def test_one_whose_model_does_not_report_readiness_is_rolled_back(name: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.answers[TWO] = 401, WANTS_CREDENTIALS[401]
    api.readiness[TWO], sentence = NOT_READY[name]
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(sentence)
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uri == ONE


def test_one_that_only_the_api_server_cannot_reach_by_then_is_not_rolled_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    said = "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout"
    api.answers[TWO] = 401, WANTS_CREDENTIALS[401]
    api.readiness[TWO] = 503, {"kind": "Status", "message": said}
    assert reason(lambda: deploy(TWO)).startswith(f"ready, but the API server cannot reach it ({said})")
    assert api.storage_uri == TWO


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Status", "error": "credentials: missing or invalid", "message": "Unauthorized"},
        {"error": "audience: not this one"},
        {"error": ["credentials: "]},
        "credentials: none",
    ],
)
def test_a_refusal_that_is_not_the_doors_counts_as_the_api_servers(
    status: int, body: object, api: ApiServer, deploy: Deploy
) -> None:
    deploy(ONE)
    api.answers[TWO] = status, body
    failed = reason(lambda: deploy(TWO))
    assert ("does not accept your credentials" if status == 401 else "the API server refuses (403") in failed
    assert "rolled back" not in failed
    assert api.storage_uri == TWO


def test_so_is_one_of_the_second_question(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.answers[TWO] = 401, WANTS_CREDENTIALS[401]
    api.refuse(401, "Unauthorized", lambda call: call.path.endswith("/proxy/v1/models/alexnet"))
    assert reason(lambda: deploy(TWO)).startswith("the cluster does not accept your credentials")
    assert api.storage_uri == TWO


def test_credentials_that_expire_before_the_question_do_not_roll_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.refuse(401, "Unauthorized", lambda call: "/proxy/" in call.path)
    assert reason(lambda: deploy(TWO)).startswith("the cluster does not accept your credentials")
    assert api.storage_uri == TWO


def test_in_knative_mode_the_revision_is_asked(api: ApiServer, deploy: Deploy) -> None:
    api.mode = "Knative"
    assert deploy(ONE)


def test_in_knative_mode_a_service_that_never_became_ready_has_no_revision_to_ask(
    api: ApiServer, deploy: Deploy, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.mode = "Knative"
    deploy(ONE)
    del api.objects["configmaps", "alexnet-deployments"]
    was = api._status
    created = {"predictor": {"latestCreatedRevision": "alexnet-predictor-00001"}}
    never_ready = {"components": created}
    monkeypatch.setattr(api, "_status", lambda service: was(service) | (never_ready if api.storage_uri == ONE else {}))
    assert deploy(TWO)
    assert heard.warned[-1].startswith(f"{ONE}, the live version, does not serve: ")
