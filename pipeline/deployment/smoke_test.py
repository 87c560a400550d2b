"""The smoke test: one real question to a service that is ready, through the API server's proxy."""

from __future__ import annotations

import time

from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.answer import Answer
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import NoAnswer, OutOfReach, SmokeTestFailed
from pipeline.deployment.objects import Object, annotations_of, name_of
from pipeline.deployment.pace import Pace
from pipeline.serving.question import QUESTION
from pipeline.serving.route import predict_route

MODE = "serving.kserve.io/deploymentMode"
ITS_OWN_ERRORS = tuple({*range(400, 600)} - {401, 403})  # those two are the API server's


def ask_model(cluster: Cluster, service: Object, pace: Pace) -> str:
    """The label that the model gives to a black picture.

    Raises SmokeTestFailed, OutOfReach, or what the cluster raises. service: as the cluster has it, ready.
    """
    answer = _answer(cluster, service, pace)
    if "error trying to reach service" in answer.message and "timeout" in answer.message:
        raise OutOfReach(answer.message)
    if answer.status != 200:
        said = answer.fields.get("error") or answer.message
        raise SmokeTestFailed(f"the model does not answer a prediction ({answer.status}: {said})")
    try:
        (prediction,) = answer.body["predictions"]
        return str(prediction["classes"][0]["label"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise SmokeTestFailed(
            f"what answers is not this model ({answer.message[:100]}): is the storageUri of another?"
        ) from None


def _answer(cluster: Cluster, service: Object, pace: Pace) -> Answer:
    target, headers = _target(service, cluster.namespace)
    path = f"/api/v1/namespaces/{cluster.namespace}/services/http:{target}:80/proxy{predict_route(MODEL_NAME)}"
    deadline = time.monotonic() + pace.smoke
    while True:
        try:
            answer = cluster.ask(
                "POST", path, body=QUESTION, allowed=ITS_OWN_ERRORS, headers=headers, timeout=pace.answer
            )
        except NoAnswer:
            raise SmokeTestFailed(f"the model does not answer a prediction within {pace.answer[1]:g} s") from None
        if answer.status not in (502, 503, 504) or time.monotonic() >= deadline:
            return answer
        time.sleep(pace.poll)  # the proxy may learn of a new pod a moment after it is ready


def _target(service: Object, namespace: str) -> tuple[str, dict[str, str]]:
    """The Service to ask, and the headers to ask it with."""
    mode = service["status"].get("deploymentMode") or annotations_of(service).get(MODE)
    if mode not in ("Knative", "Serverless"):
        return f"{name_of(service)}-predictor", {}
    # There that name is an alias of the ingress gateway; a revision's own Service may lead to the activator, which
    # learns from these headers what to wake.
    revision = str(service["status"]["components"]["predictor"]["latestReadyRevision"])
    return revision, {"Knative-Serving-Namespace": namespace, "Knative-Serving-Revision": revision}
