"""KServe's V1 protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance import sources
from conformance.checking import Checks, must, not_applicable, should
from conformance.http import Reply
from conformance.questions import Given, for_v1
from conformance.rest import (
    NOT_JSON,
    UNKNOWN,
    RestCase,
    encoded,
    predictions_keep_their_order,
    refused,
    shape_of_errors,
)


class V1Case(RestCase):
    def path(self, model: str) -> str:
        return f"/v1/models/{model}:predict"

    def body(self, *questions: Any) -> dict[str, Any]:
        return {"instances": list(questions)}

    def wrong_body(self) -> dict[str, Any]:
        return self.body({"conformance": {"no": ["such", None, {"field": True}]}})

    def rows(self, reply: Reply) -> list[Any]:
        predictions = reply.object.get("predictions")
        must(isinstance(predictions, list), '"predictions": a list', reply)
        return list(predictions or [])

    def look(self, given: Sequence[Given]) -> None:
        self.find_questions(for_v1(given, self.described()))

    def is_ready(self) -> bool:
        return self.http.get(f"/v1/models/{self.model}").status == 200


CHECKS: Checks[V1Case] = Checks()


@CHECKS.by(sources.V1)
def the_models_are_listed(case: V1Case) -> None:
    """GET /v1/models lists the names of the models."""
    reply = case.http.get("/v1/models")
    must(reply.status == 200, "200", reply)
    names = reply.object.get("models")
    must(isinstance(names, list) and case.model in names, f'"models": a list with {case.model!r}', reply)


@CHECKS.by(sources.V1)
def the_model_says_that_it_is_ready(case: V1Case) -> None:
    """GET /v1/models/NAME reports that a loaded model is ready: its name, and ready: true."""
    reply = case.http.get(f"/v1/models/{case.model}")
    must(reply.status == 200, "200", reply)
    said = reply.object
    must(said.get("name") == case.model, f'"name": "{case.model}"', reply)
    must(said.get("ready") is True, '"ready": true', reply)


@CHECKS.by(sources.V1)
def an_unknown_model_is_not_ready(case: V1Case) -> None:
    """GET /v1/models/NAME refuses an unknown model, with 404."""
    reply = case.http.get(f"/v1/models/{UNKNOWN}")
    refused(reply)
    should(reply.status == 404, "404", reply)


@CHECKS.by(sources.V1)
def a_question_is_answered(case: V1Case) -> None:
    """A predict call is answered with 200, JSON, and a prediction for each instance."""
    reply = case.ask(case.body(case.question))
    rows = case.read(reply)
    must(len(rows) == 1, "one prediction for one instance", len(rows))
    kind = reply.headers.get("content-type", "none")
    should(kind.startswith("application/json"), "Content-Type: application/json", kind)


@CHECKS.by(sources.TF_SERVING)
def the_order_is_kept(case: V1Case) -> None:
    """The predictions are in the order of the instances."""
    predictions_keep_their_order(case)


@CHECKS.by(sources.V1)
def inputs_are_instances(case: V1Case) -> None:
    """ "inputs" works like "instances"."""
    alone = case.answer(case.question)
    reply = case.ask({"inputs": [case.question]})
    must(reply.status < 500, "no status of 500 or more", reply)
    should(reply.status == 200 and case.rows(reply) == alone, "the same answer as with instances", reply)


@CHECKS.by(sources.V1)
def instances_that_are_no_list_are_no_defect(case: V1Case) -> None:
    """ "instances" that is not a list is the client's fault, not the server's."""
    for wrong in ("text", {"0": 1}, None, 17):
        refused(case.ask({"instances": wrong}))


@CHECKS.by(sources.V1)
def no_instances_are_no_defect(case: V1Case) -> None:
    """A call without instances, or with an empty list, is not the server's fault."""
    bodies: list[dict[str, list[Any]]] = [{}, {"instances": []}]
    for body in bodies:
        reply = case.ask(body)
        must(reply.status < 500, f"no status of 500 or more for {body}", reply)


@CHECKS.by(sources.TF_SERVING)
def errors_have_their_shape(case: V1Case) -> None:
    """Every refusal is JSON: {"error": "what is wrong"}."""
    shape_of_errors(
        [
            ("a body that is not JSON", case.ask(NOT_JSON)),
            ("contents of a wrong type", case.ask(case.wrong_body())),
            ("an unknown model", case.http.post(case.path(UNKNOWN), b'{"instances": []}')),
            ("the readiness of an unknown model", case.http.get(f"/v1/models/{UNKNOWN}")),
        ]
    )


@CHECKS.by(sources.V1)
def an_explanation_has_its_shape(case: V1Case) -> None:
    """:explain answers with "explanations" if the model has them; otherwise with a 4xx or 501."""
    reply = case.http.post(f"/v1/models/{case.model}:explain", encoded(case.body(case.question)))
    if 400 <= reply.status < 500 or reply.status == 501:
        not_applicable(f"the model has no explanations, and says so: {reply.status}")
    must(reply.status == 200, "200, or that there are no explanations", reply)
    must(isinstance(reply.object.get("explanations"), list), '"explanations": a list', reply)
