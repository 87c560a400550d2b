"""The Open Inference Protocol (V2) over REST."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance import sources
from conformance.checking import Checks, must, not_applicable, should
from conformance.http import Reply
from conformance.questions import Given, for_v2
from conformance.rest import (
    NOT_JSON,
    UNKNOWN,
    RestCase,
    encoded,
    not_blamed_on_the_server,
    predictions_keep_their_order,
    refused,
    shape_of_errors,
)
from conformance.tensors import Question, Tensor, agree, alike, described, from_json, stacked, takes_batches


@dataclass
class V2Case(RestCase):
    """metadata: the server's description of the model, {} if that is not an object."""

    metadata: dict[str, Any] = field(default_factory=dict)

    def path(self, model: str) -> str:
        return f"/v2/models/{model}/infer"

    def body(self, *questions: Question) -> dict[str, Any]:
        return {"inputs": [tensor.to_json() for tensor in stacked(questions)]}

    def wrong_body(self) -> dict[str, Any]:
        """A request with an object as an element, which no datatype allows."""
        tensor = self.questions[0][0] if self.questions else Tensor("input", "FP32", (1, 1), (0,))
        return {"inputs": [{**tensor.head(), "data": [{"no": "such"}] * len(tensor.values)}]}

    def outputs(self, reply: Reply) -> list[Tensor]:
        """The outputs of an answer that is only JSON. Raises Failed if it violates the protocol."""
        outputs = reply.object.get("outputs")
        must(isinstance(outputs, list) and bool(outputs), '"outputs": a list', reply)
        return [from_json(output) for output in outputs or []]

    def rows(self, reply: Reply) -> list[Any]:
        """For each item of the batch, its part of each output. One row with everything if the outputs are no batch."""
        outputs = self.outputs(reply)
        parts = {tensor.name: tensor.rows() for tensor in outputs}
        counts = {len(rows) for rows in parts.values()}
        if len(counts) != 1:
            return [{tensor.name: list(tensor.values) for tensor in outputs}]
        return [{name: rows[at] for name, rows in parts.items()} for at in range(counts.pop())]

    def look(self, given: Sequence[Given]) -> None:
        self.metadata = self.described()
        self.find_questions(for_v2(given, self.metadata))

    def is_ready(self) -> bool:
        return self.http.get(f"/v2/models/{self.model}/ready").status == 200


CHECKS: Checks[V2Case] = Checks()

# --- Health and metadata ----------------------------------------------------------------------------------------------


@CHECKS.by(sources.HEALTH)
def the_server_is_live_and_ready(case: V2Case) -> None:
    """GET /v2/health/live, /v2/health/ready and /v2/models/NAME/ready answer 200 when all is well."""
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{case.model}/ready"):
        reply = case.http.get(path)
        must(reply.status == 200, f"200 for {path}", reply)


@CHECKS.by(sources.HEALTH_BODIES)
def health_has_bodies(case: V2Case) -> None:
    """Their bodies say so too: live: true, ready: true."""
    for path, key in (
        ("/v2/health/live", "live"),
        ("/v2/health/ready", "ready"),
        (f"/v2/models/{case.model}/ready", "ready"),
    ):
        reply = case.http.get(path)
        should(bool(reply.body), f'{{"{key}": true}} for {path}', "no body")
        said = reply.object
        must(said.get(key) is not False, f"not false with {reply.status} for {path}", reply)
        should(said.get(key) is True, f'{{"{key}": true}} for {path}', reply)


@CHECKS.by(sources.MODEL_METADATA)
def an_unknown_model_is_neither_ready_nor_described(case: V2Case) -> None:
    """Metadata and readiness of an unknown model are refused, with 404."""
    for path in (f"/v2/models/{UNKNOWN}", f"/v2/models/{UNKNOWN}/ready"):
        reply = case.http.get(path)
        refused(reply)
        should(reply.status == 404, f"404 for {path}", reply)


@CHECKS.by(sources.SERVER_METADATA)
def the_server_describes_itself(case: V2Case) -> None:
    """GET /v2 has the server's name, its version and its extensions."""
    reply = case.http.get("/v2")
    must(reply.status == 200, "200", reply)
    said = reply.object
    for key in ("name", "version"):
        must(isinstance(said.get(key), str), f'"{key}": a string', reply)
    extensions = said.get("extensions")
    fine = isinstance(extensions, list) and all(isinstance(name, str) for name in extensions)
    must(fine, '"extensions": a list of strings', reply)


@CHECKS.by(sources.MODEL_METADATA)
def the_model_is_described(case: V2Case) -> None:
    """GET /v2/models/NAME has the model's name, its platform, and its inputs and outputs as tensors."""
    reply = case.http.get(f"/v2/models/{case.model}")
    must(reply.status == 200, "200", reply)
    said = reply.object
    must(said.get("name") == case.model, f'"name": "{case.model}"', reply)
    must(isinstance(said.get("platform"), str), '"platform": a string', reply)
    for side in ("inputs", "outputs"):
        must(bool(described(said, side)), f'the {side} of the model in "{side}"', "an empty list")


@CHECKS.by(sources.MODEL_METADATA)
def the_description_is_true(case: V2Case) -> None:
    """The model accepts the inputs that its metadata describe, and its outputs match the metadata."""
    if not case.metadata.get("inputs") or not case.metadata.get("outputs"):
        not_applicable("the metadata has no tensors: the check before this one says so")
    promised = {tensor["name"]: tensor for tensor in described(case.metadata, "inputs")}
    for tensor in case.question:
        must(tensor.name in promised, f"an input of the metadata, {sorted(promised)}", tensor.name)
    reply = case.ask(case.body(case.question))
    must(reply.status == 200, "200 for tensors as in the metadata", reply)
    agree(case.metadata, case.outputs(reply))


@CHECKS.by(sources.MODEL_METADATA)
def each_version_can_be_asked(case: V2Case) -> None:
    """A version in the metadata can be called by its name: ready, metadata, infer."""
    versions = case.metadata.get("versions") or []
    if not versions:
        not_applicable("the metadata names no versions")
    fine = isinstance(versions, list) and all(isinstance(version, str) for version in versions)
    must(fine, '"versions": a list of strings', versions)
    for version in versions[:3]:
        path = f"/v2/models/{case.model}/versions/{version}"
        for reply in (case.http.get(path), case.http.get(f"{path}/ready")):
            must(reply.status == 200, f"200 for {path} and its /ready", reply)
        reply = case.http.post(f"{path}/infer", encoded(case.body(case.question)))
        must(reply.status == 200, f"200 for {path}/infer", reply)


@CHECKS.by(sources.MODEL_METADATA)
def an_unknown_version_is_no_defect(case: V2Case) -> None:
    """An unknown version is refused, with 404 (or 501 if the server has no versions)."""
    reply = case.http.get(f"/v2/models/{case.model}/versions/no-such-version")
    must(400 <= reply.status < 500 or reply.status == 501, "a status from 400 to 499", reply)
    should(reply.status == 404, "404", reply)


# --- Inference --------------------------------------------------------------------------------------------------------


@CHECKS.by(sources.RESPONSE)
def a_question_is_answered(case: V2Case) -> None:
    """An infer call is answered with 200 and JSON: the model's name, and outputs whose data match their shapes."""
    reply = case.ask(case.body(case.question))
    case.read(reply)
    name = reply.object.get("model_name")
    must(name == case.model, f'"model_name": "{case.model}"', name)
    kind = reply.headers.get("content-type", "none")
    should(kind.startswith("application/json"), "Content-Type: application/json", kind)


@CHECKS.by(sources.REQUEST)
def the_id_comes_back(case: V2Case) -> None:
    """The request's "id" is returned."""
    _id_comes_back(case, "42")


@CHECKS.by(sources.REQUEST)
def an_id_of_any_characters_comes_back(case: V2Case) -> None:
    """An "id" is an ordinary string: spaces, a slash and non-Latin letters are returned too."""
    _id_comes_back(case, "a b/c ✓ käse")


def _id_comes_back(case: V2Case, given: str) -> None:
    reply = case.ask({"id": given, **case.body(case.question)})
    case.read(reply)
    said = reply.object.get("id")
    must(said == given, f'"id": "{given}"', said)


@CHECKS.by(sources.TENSOR_DATA)
def flat_data_and_nested_data_are_the_same(case: V2Case) -> None:
    """Data nested like its shape, and the same data as one flat list, get the same answer."""
    tensors = [tensor for tensor in case.question if len(tensor.shape) > 1]
    if not tensors:
        not_applicable("the model's inputs have one dimension")
    alone = case.answer(case.question)
    inputs = [tensor.to_json() for tensor in case.question]
    for tensor in inputs:
        for size in reversed(tensor["shape"][1:]):
            tensor["data"] = [tensor["data"][at : at + size] for at in range(0, len(tensor["data"]), size)]
    must(alike(case.read(case.ask({"inputs": inputs})), alone), "the same answer as for flat data", "another")


@CHECKS.by(sources.REQUEST)
def the_order_is_kept(case: V2Case) -> None:
    """The rows of the outputs are in the order of the inputs' rows."""
    if not takes_batches(case.metadata):
        not_applicable("the model takes no batch: its first dimension is not -1")
    predictions_keep_their_order(case)


@CHECKS.by(sources.REQUEST)
def only_the_outputs_that_are_asked_come(case: V2Case) -> None:
    """With "outputs", only those outputs are returned."""
    names = [tensor.name for tensor in case.outputs(case.ask(case.body(case.question)))]
    for wanted in names:
        reply = case.ask({**case.body(case.question), "outputs": [{"name": wanted}]})
        must(reply.status == 200, "200", reply)
        got = [tensor.name for tensor in case.outputs(reply)]
        must(got == [wanted], f"only {[wanted]}", got)


@CHECKS.by(sources.CLIENT_ERROR)
def an_unknown_output_is_no_defect(case: V2Case) -> None:
    """An output that the model does not have is the client's fault, not the server's."""
    not_blamed_on_the_server(case.ask({**case.body(case.question), "outputs": [{"name": "no-such-output"}]}))


# --- What is wrong with a request -------------------------------------------------------------------------------------


@CHECKS.by(sources.REQUEST)
def no_inputs_are_refused(case: V2Case) -> None:
    """A call without inputs is refused."""
    refused(case.ask({}))
    refused(case.ask({"id": "1", "inputs": "text"}))


def _with_first_tensor(case: V2Case, change: Callable[[dict[str, Any]], object]) -> None:
    """Sends a good question with one change."""
    body = case.body(case.question)
    change(body["inputs"][0])
    not_blamed_on_the_server(case.ask(body))


@CHECKS.by(sources.REQUEST)
def an_unknown_datatype_is_no_defect(case: V2Case) -> None:
    """An unknown datatype is the client's fault, not the server's."""
    _with_first_tensor(case, lambda tensor: tensor.update(datatype="FP31"))


@CHECKS.by(sources.REQUEST)
def a_shape_that_is_not_that_of_the_data_is_no_defect(case: V2Case) -> None:
    """A shape that does not match the data is the client's fault, not the server's."""
    _with_first_tensor(case, lambda tensor: tensor.update(shape=[7, *tensor["shape"][1:]]))


@CHECKS.by(sources.REQUEST)
def a_negative_shape_is_no_defect(case: V2Case) -> None:
    """A negative dimension is the client's fault, not the server's."""
    _with_first_tensor(case, lambda tensor: tensor.update(shape=[-1, *tensor["shape"][1:]]))


@CHECKS.by(sources.REQUEST)
def an_enormous_shape_takes_no_memory(case: V2Case) -> None:
    """A shape with more elements than any memory holds does not get 200, and the next question does."""
    body = case.body(case.question)
    body["inputs"][0]["shape"][0] = 2**40
    reply = case.ask(body)
    must(reply.status != 200, "a refusal", reply)
    case.answer(case.question)


@CHECKS.by(sources.REQUEST)
def no_data_is_no_defect(case: V2Case) -> None:
    """A tensor without data is the client's fault, not the server's."""
    _with_first_tensor(case, lambda tensor: tensor.pop("data"))


@CHECKS.by(sources.REQUEST)
def no_name_is_no_defect(case: V2Case) -> None:
    """A tensor without a name is the client's fault, not the server's."""
    _with_first_tensor(case, lambda tensor: tensor.pop("name"))


@CHECKS.by(sources.ERROR)
def errors_have_their_shape(case: V2Case) -> None:
    """Every refusal of a call for metadata or inference is JSON: {"error": "what is wrong"}."""
    shape_of_errors(
        [
            ("a body that is not JSON", case.ask(NOT_JSON)),
            ("no inputs", case.ask({})),
            ("contents of a wrong type", case.ask(case.wrong_body())),
            ("an unknown model", case.http.post(case.path(UNKNOWN), encoded(case.wrong_body()))),
            ("the metadata of an unknown model", case.http.get(f"/v2/models/{UNKNOWN}")),
        ]
    )
