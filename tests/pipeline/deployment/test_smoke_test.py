"""One question to what is ready: what counts as an answer, and what follows where there is none."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from tests.support.api_server import URL, ApiServer, Call
from tests.support.deployments import FAST, ONE, TWO, Deploy, Make, reason

pytest_plugins = ["tests.support.deployments"]


WRONG = {
    "error": (
        (500, {"error": "out of memory"}),
        "ready, but the model does not answer a prediction (500: out of memory)",
    ),
    "busy": ((503, {"error": "busy"}), "ready, but the model does not answer a prediction (503: busy)"),
    "another model": ((200, {"predictions": [[0.1]]}), "ready, but what answers is not this model"),
    "no JSON": ((200, "<html>"), "ready, but what answers is not this model"),
    "no classes": ((200, {"predictions": [{"classes": []}]}), "ready, but what answers is not this model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_service_that_answers_wrongly_is_rolled_back(name: str, api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.answers[TWO], sentence = WRONG[name]
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(sentence)
    assert failed.endswith(f"; rolled back to {ONE}, which is ready again")
    assert api.storage_uri == ONE


def test_a_model_that_is_silent_is_rolled_back(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    over = threading.Event()

    def be_silent(call: Call) -> None:
        if "/proxy/" in call.path and api.storage_uri == TWO:
            over.wait(30)

    api.trouble = be_silent
    pace = dataclasses.replace(FAST, answer=(5, 0.2))
    failed = reason(lambda: make(pace).deploy(TWO))
    over.set()
    assert failed == (
        f"ready, but the model does not answer a prediction within 0.2 s; rolled back to {ONE}, which is ready again"
    )
    assert api.storage_uri == ONE


def test_a_service_that_only_the_api_server_cannot_reach_is_not_rolled_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    said = "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout"
    api.answers[TWO] = 503, {"kind": "Status", "message": said}
    failed = reason(lambda: deploy(TWO))
    assert failed.startswith(f"ready, but the API server cannot reach it ({said}): a NetworkPolicy")
    assert f"apply InferenceService alexnet with {TWO}" in failed
    assert api.storage_uri == TWO


def test_credentials_that_expire_before_the_question_do_not_roll_back(api: ApiServer, deploy: Deploy) -> None:
    deploy(ONE)
    api.refuse(401, "Unauthorized", lambda call: "/proxy/" in call.path)
    assert reason(lambda: deploy(TWO)).startswith("the cluster does not accept your credentials")
    assert api.storage_uri == TWO


def test_in_knative_mode_it_is_the_revision_that_is_asked(api: ApiServer, deploy: Deploy) -> None:
    api.mode = "Knative"
    assert deploy(ONE) == URL
