"""The smoke test: one real request to a service that is ready, through the API server's proxy."""

from __future__ import annotations

import time
from typing import Any

from pipeline.deployment.answer import Answer
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import NoAnswer, OutOfReach, SmokeTestFailed
from pipeline.deployment.models import model_of
from pipeline.deployment.objects import Object, is_on_knative, name_of
from pipeline.deployment.pace import Pace
from pipeline.deployment.refusals import refusal
from pipeline.serving.question import QUESTION
from pipeline.serving.route import model_route, predict_route

ANY_ERROR = tuple(range(400, 600))
NO_PREDICTION = "the model does not answer predictions"
NO_WORD = "the model does not report that it is ready"
CREDENTIALS = "credentials:"  # how the front door's errors about them begin (kserve/runtime/envoy.yaml)


def ask_model(cluster: Cluster, service: Object, pace: Pace) -> str | None:
    """The model's label for a black picture; None if the service requires credentials for that.

    In that case the server itself must report that its model has answered lately.

    Raises SmokeTestFailed, OutOfReach, or what the cluster raises. service: as the cluster has it, ready.
    """
    model = model_of(service)
    answer = answer_of(cluster, service, pace, NO_PREDICTION, "POST", predict_route(model), QUESTION)
    if wants_credentials(answer):
        _require_readiness(answer_of(cluster, service, pace, NO_WORD, "GET", model_route(model)), model)
        return None
    if answer.status != 200:
        raise SmokeTestFailed(f"{NO_PREDICTION} ({said_in(answer)})")
    try:
        (prediction,) = answer.body["predictions"]
        return str(prediction["classes"][0]["label"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise _another_model(answer) from None


def _require_readiness(answer: Answer, model: str) -> None:
    if answer.status != 200:
        raise SmokeTestFailed(f"{NO_WORD} ({said_in(answer)})")
    if answer.fields.get("name") != model or answer.fields.get("ready") is not True:
        raise _another_model(answer)


def wants_credentials(answer: Answer) -> bool:
    """Whether this is the door's own 401 or 403. The API server answers with a Status instead."""
    said = answer.fields.get("error")
    is_the_doors = answer.fields.keys() == {"error"} and isinstance(said, str) and said.startswith(CREDENTIALS)
    return answer.status in (401, 403) and is_the_doors


def said_in(answer: Answer) -> str:
    """What is wrong, according to the answer."""
    return f"{answer.status}: {answer.fields.get('error') or answer.message}"


def _another_model(answer: Answer) -> SmokeTestFailed:
    said = answer.message[:100]
    return SmokeTestFailed(f"the answer is not this model's ({said}): is the storageUri another model's?")


def answer_of(
    cluster: Cluster, service: Object, pace: Pace, problem: str, method: str, route: str, body: Any = None
) -> Answer:
    """The answer of the service or its front door. Raises the API server's own errors. problem: if nothing answers."""
    target, headers = _target(service, cluster.namespace)
    path = f"/api/v1/namespaces/{cluster.namespace}/services/http:{target}:80/proxy{route}"
    deadline = time.monotonic() + pace.smoke
    while True:
        try:
            answer = cluster.ask(method, path, body=body, allowed=ANY_ERROR, headers=headers, timeout=pace.answer)
        except NoAnswer:
            raise SmokeTestFailed(f"{problem} within {pace.answer[1]:g} s") from None
        if answer.status not in (502, 503, 504) or time.monotonic() >= deadline:
            break
        time.sleep(pace.poll)  # the proxy may notice a new pod only a moment after it is ready
    if "error trying to reach service" in answer.message and "timeout" in answer.message:
        raise OutOfReach(answer.message)
    if answer.status in (401, 403) and not wants_credentials(answer):
        raise refusal(answer, method, path)
    return answer


def _target(service: Object, namespace: str) -> tuple[str, dict[str, str]]:
    """The Service to call, and the headers for it. Raises SmokeTestFailed if there is none."""
    if not is_on_knative(service):
        return f"{name_of(service)}-predictor", {}
    # On Knative that name is an alias of the ingress gateway. A revision's own Service may lead to the activator, which
    # reads from these headers what to wake.
    revision = service.get("status", {}).get("components", {}).get("predictor", {}).get("latestReadyRevision")
    if revision is None:
        raise SmokeTestFailed("KServe has no ready revision of it")
    return revision, {"Knative-Serving-Namespace": namespace, "Knative-Serving-Revision": revision}
