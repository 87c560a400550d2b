"""A server that follows the protocol passes, and each check fails if its own sentence is not true."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from conformance import binary, grpc_calls, grpc_v2, rest, v1, v2
from conformance.__main__ import main
from conformance.checking import Check, Outcome, run
from conformance.http import Http
from tests.conformance.stand_in import (
    LENGTH,
    MOST_BYTES,
    NAME,
    Code,
    GrpcTwist,
    Reply,
    Request,
    StandIn,
    Twist,
    say,
    serving,
)

INFER, PREDICT = f"/v2/models/{NAME}/infer", f"/v1/models/{NAME}:predict"
MUST, SHOULD = Outcome.FAILED, Outcome.ADVISED
TOO_LARGE = 4 * MOST_BYTES


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[StandIn, str, str]]:
    stand_in = StandIn()
    with serving(stand_in) as (url, target):
        yield stand_in, url, target


@pytest.fixture
def stand_in(listening: tuple[StandIn, str, str]) -> Iterator[StandIn]:
    yield listening[0]
    listening[0].straight()


@pytest.fixture
def http(listening: tuple[StandIn, str, str]) -> Iterator[Http]:
    with Http(listening[1], {}, 30) as client:
        yield client


@pytest.fixture
def v1_case(http: Http) -> v1.V1Case:
    case = v1.V1Case(http, NAME, TOO_LARGE)
    case.look([])
    return case


@pytest.fixture
def v2_case(http: Http) -> v2.V2Case:
    case = v2.V2Case(http, NAME, TOO_LARGE)
    case.look([])
    return case


@pytest.fixture
def grpc_case(listening: tuple[StandIn, str, str]) -> Iterator[grpc_calls.GrpcCase]:
    case = grpc_calls.GrpcCase(listening[2], False, NAME, 5, {}, TOO_LARGE)
    case.look([])
    yield case
    case.close()


# --- What is right passes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_a_server_that_keeps_the_protocol_passes_every_check(
    listening: tuple[StandIn, str, str], protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"grpc://{listening[2]}" if protocol == "grpc" else listening[1]
    waits = ["--loading", "5", "--model", NAME, "--too-large", "4", "--strict", "--json"]
    assert main([url, "--protocol", protocol, *waits]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [each for each in results if each["outcome"] != "passed"] == []
    assert len(results) == {"v1": len(V1), "v2": len(V2), "grpc": len(GRPC)}[protocol]


# --- What is wrong fails ----------------------------------------------------------------------------------------------


def at(path: str, change: Callable[[Reply], Reply | None], method: str = "") -> Twist:
    """A different answer at one path. method: only for this one."""
    return lambda request, reply: change(reply) if request.path == path and method in ("", request.method) else reply


def status(number: int) -> Callable[[Reply], Reply]:
    return lambda reply: reply._replace(status=number)


def edited(**changes: Any) -> Callable[[Reply], Reply]:
    """The JSON of a good answer with these keys, or without those that are None."""

    def edit(reply: Reply) -> Reply:
        said = {key: value for key, value in {**reply.json, **changes}.items() if value is not None}
        return reply._replace(body=json.dumps(said).encode())

    return lambda reply: edit(reply) if reply.status == 200 else reply


def refusals(number: int) -> Twist:
    """Every refusal has this status."""
    return lambda _, reply: reply if reply.status == 200 else reply._replace(status=number)


def turned(reply: Reply) -> Reply:
    """Its rows are in the wrong order."""
    if reply.status != 200:
        return reply
    if "predictions" in reply.json:
        return edited(predictions=reply.json["predictions"][::-1])(reply)
    outputs = reply.json["outputs"]
    for output in outputs:
        width = len(output["data"]) // output["shape"][0]
        rows = [output["data"][start : start + width] for start in range(0, len(output["data"]), width)]
        output["data"] = [value for row in rows[::-1] for value in row]
    return edited(outputs=outputs)(reply)


def doubled_prediction(reply: Reply) -> Reply:
    return edited(predictions=reply.json["predictions"] * 2)(reply) if reply.status == 200 else reply


def other_outputs(change: Callable[[dict[str, Any]], object]) -> Callable[[Reply], Reply]:
    """Changes the first output of an answer in JSON."""

    def edit(reply: Reply) -> Reply:
        if reply.status != 200 or LENGTH in reply.headers:
            return reply
        outputs = reply.json["outputs"]
        change(outputs[0])
        return edited(outputs=outputs)(reply)

    return edit


def where(holds: Callable[[Request], bool], change: Callable[[Reply], Reply | None]) -> Twist:
    return lambda request, reply: change(reply) if holds(request) else reply


def body_has(text: bytes) -> Callable[[Request], bool]:
    return lambda request: text in request.body


def of_the_raw_client(request: Request) -> bool:
    """Requests that are pipelined, or sent one after the other."""
    return "user-agent" not in request.headers


def stale(after: int, holds: Callable[[Request], bool] = lambda _: True) -> Twist:
    """After this many answers, each is a copy of the first."""
    answers: list[Reply] = []

    def twist(request: Request, reply: Reply) -> Reply:
        if reply.status != 200 or not holds(request):
            return reply
        answers.append(reply)
        return answers[0] if len(answers) > after else reply

    return twist


def infected() -> Twist:
    """After a bad request, good ones are refused."""
    bad: list[Reply] = []

    def twist(_: Request, reply: Reply) -> Reply:
        if reply.status >= 400:
            bad.append(reply)
        return say({"error": "server: busy"}, 503) if bad and reply.status == 200 else reply

    return twist


def closed(_: Reply) -> None:
    return None


def is_get(request: Request) -> bool:
    return request.method == "GET" and request.path in (INFER, PREDICT)


def is_gzip(request: Request) -> bool:
    return "content-encoding" in request.headers


def is_binary(request: Request) -> bool:
    return LENGTH.lower() in request.headers


def infected_raw(request: Request, reply: Reply) -> Reply:
    """On a connection with several questions, the good ones get other answers than alone."""
    return reply._replace(status=503) if of_the_raw_client(request) and reply.status == 200 else reply


def all_outputs(reply: Reply) -> Reply:
    """Whichever were requested."""
    return edited(outputs=(reply.json["outputs"] * 2)[:2])(reply)


def without_length(reply: Reply) -> Reply:
    return reply._replace(headers={name: value for name, value in reply.headers.items() if name != LENGTH})


def shorter(reply: Reply) -> Reply:
    return reply._replace(body=reply.body[:-1]) if LENGTH in reply.headers else reply


REST: list[tuple[str, Outcome, Twist]] = [
    ("a_body_that_is_not_json_is_refused", MUST, refusals(500)),
    ("a_body_that_is_not_json_is_refused", MUST, refusals(200)),
    ("a_body_that_is_no_text_is_refused", MUST, refusals(500)),
    ("a_body_that_is_no_object_is_refused", MUST, where(body_has(b"17"), status(500))),
    ("deep_json_is_no_defect", MUST, where(body_has(b"[[[["), closed)),
    ("contents_of_a_wrong_type_are_no_defect", MUST, refusals(500)),
    ("contents_of_a_wrong_type_are_no_defect", SHOULD, refusals(200)),
    ("an_unknown_model_is_not_found", MUST, refusals(500)),
    ("an_unknown_model_is_not_found", SHOULD, refusals(400)),
    ("another_method_is_not_allowed", MUST, where(is_get, status(200))),
    ("another_method_is_not_allowed", MUST, where(is_get, lambda reply: reply._replace(headers={}))),
    ("another_method_is_not_allowed", SHOULD, where(is_get, status(404))),
    ("a_gzip_body_is_read_or_refused", MUST, where(is_gzip, status(500))),
    ("a_gzip_body_is_read_or_refused", SHOULD, where(is_gzip, status(400))),
    ("a_gzip_body_is_read_or_refused", Outcome.NOT_APPLICABLE, where(is_gzip, status(415))),
    ("a_refusal_keeps_the_connection", SHOULD, where(of_the_raw_client, closed)),
    ("a_refusal_keeps_the_connection", MUST, infected_raw),
    ("pipelined_answers_keep_their_order", MUST, stale(1, of_the_raw_client)),
    ("pipelined_answers_keep_their_order", Outcome.NOT_APPLICABLE, where(of_the_raw_client, closed)),
    ("each_gets_its_own_answer", MUST, stale(2)),
    ("a_bad_request_harms_no_other", MUST, infected()),
]


V1_FAULTS: list[tuple[str, Outcome, Twist]] = [
    ("the_models_are_listed", MUST, at("/v1/models", edited(models=[]))),
    ("the_model_says_that_it_is_ready", MUST, at(f"/v1/models/{NAME}", edited(ready="true"))),
    ("the_model_says_that_it_is_ready", MUST, at(f"/v1/models/{NAME}", edited(name=None))),
    ("an_unknown_model_is_not_ready", MUST, refusals(503)),
    ("an_unknown_model_is_not_ready", SHOULD, refusals(400)),
    ("a_question_is_answered", MUST, at(PREDICT, doubled_prediction)),
    ("a_question_is_answered", MUST, at(PREDICT, edited(predictions={}))),
    ("a_question_is_answered", SHOULD, at(PREDICT, lambda reply: reply._replace(headers={}))),
    ("the_order_is_kept", MUST, at(PREDICT, turned)),
    ("inputs_are_instances", MUST, where(body_has(b'"inputs"'), status(500))),
    ("inputs_are_instances", SHOULD, where(body_has(b'"inputs"'), status(400))),
    ("instances_that_are_no_list_are_no_defect", MUST, where(body_has(b"null"), status(500))),
    ("no_instances_are_no_defect", MUST, where(body_has(b"{}"), status(500))),
    (
        "errors_have_their_shape",
        MUST,
        at("/v1/models/no-such-model", lambda reply: say({"detail": "no"}, reply.status)),
    ),
    ("an_explanation_has_its_shape", MUST, at(f"/v1/models/{NAME}:explain", edited(explanations=None))),
    ("an_explanation_has_its_shape", Outcome.NOT_APPLICABLE, at(f"/v1/models/{NAME}:explain", status(501))),
]

V2_FAULTS: list[tuple[str, Outcome, Twist]] = [
    ("the_server_is_live_and_ready", MUST, at("/v2/health/live", status(503))),
    ("the_server_is_live_and_ready", MUST, at(f"/v2/models/{NAME}/ready", status(503))),
    ("health_has_bodies", MUST, at("/v2/health/ready", edited(ready=False))),
    ("health_has_bodies", SHOULD, at("/v2/health/live", lambda reply: reply._replace(body=b""))),
    ("an_unknown_model_is_neither_ready_nor_described", MUST, refusals(503)),
    ("an_unknown_model_is_neither_ready_nor_described", SHOULD, refusals(400)),
    ("the_server_describes_itself", MUST, at("/v2", edited(version=None))),
    ("the_server_describes_itself", MUST, at("/v2", edited(extensions="binary_tensor_data"))),
    ("the_model_is_described", MUST, at(f"/v2/models/{NAME}", edited(outputs=None))),
    ("the_model_is_described", MUST, at(f"/v2/models/{NAME}", edited(inputs=[]))),
    ("the_model_is_described", MUST, at(f"/v2/models/{NAME}", edited(platform=None))),
    (
        "the_model_is_described",
        MUST,
        at(f"/v2/models/{NAME}", edited(inputs=[{"name": "x", "datatype": "float", "shape": [-1]}])),
    ),
    ("the_description_is_true", MUST, at(INFER, other_outputs(lambda output: output.update(name="other")))),
    ("the_description_is_true", MUST, at(INFER, other_outputs(lambda output: output.update(datatype="FP64")))),
    ("the_description_is_true", MUST, at(INFER, other_outputs(lambda output: output.update(shape=[4])))),
    ("each_version_can_be_asked", MUST, at(f"/v2/models/{NAME}/versions/1/ready", status(404))),
    ("each_version_can_be_asked", MUST, at(f"/v2/models/{NAME}/versions/1/infer", status(404))),
    ("an_unknown_version_is_no_defect", MUST, refusals(500)),
    ("an_unknown_version_is_no_defect", SHOULD, refusals(501)),
    ("a_question_is_answered", MUST, at(INFER, edited(model_name=None))),
    ("a_question_is_answered", MUST, at(INFER, other_outputs(lambda output: output.update(data=[math.nan] * 4)))),
    ("a_question_is_answered", MUST, at(INFER, other_outputs(lambda output: output["data"].pop()))),
    ("a_question_is_answered", SHOULD, at(INFER, lambda reply: reply._replace(headers={}))),
    ("the_id_comes_back", MUST, at(INFER, edited(id=None))),
    ("an_id_of_any_characters_comes_back", MUST, at(INFER, edited(id="a b/c ? k?se"))),
    ("flat_data_and_nested_data_are_the_same", MUST, where(body_has(b"[["), status(400))),
    ("the_order_is_kept", MUST, at(INFER, turned)),
    ("only_the_outputs_that_are_asked_come", MUST, at(INFER, all_outputs)),
    ("an_unknown_output_is_no_defect", MUST, where(body_has(b"no-such-output"), status(500))),
    ("an_unknown_output_is_no_defect", SHOULD, where(body_has(b"no-such-output"), status(200))),
    ("no_inputs_are_refused", MUST, refusals(500)),
    ("no_inputs_are_refused", MUST, refusals(200)),
    ("an_unknown_datatype_is_no_defect", MUST, refusals(500)),
    ("a_shape_that_is_not_that_of_the_data_is_no_defect", MUST, refusals(500)),
    ("a_shape_that_is_not_that_of_the_data_is_no_defect", SHOULD, refusals(200)),
    ("a_negative_shape_is_no_defect", MUST, refusals(500)),
    ("an_enormous_shape_takes_no_memory", MUST, where(body_has(b"1099511627776"), closed)),
    ("an_enormous_shape_takes_no_memory", MUST, refusals(200)),
    ("no_data_is_no_defect", MUST, refusals(500)),
    ("no_name_is_no_defect", MUST, refusals(500)),
    ("errors_have_their_shape", MUST, where(body_has(b"[,"), lambda reply: say({"detail": []}, 422))),
    ("errors_have_their_shape", MUST, at("/v2/models/no-such-model", lambda _: Reply(404, b"not found", {}))),
]


BINARY_FAULTS: list[tuple[str, Outcome, Twist]] = [
    ("binary_data_is_read_or_refused", MUST, where(is_binary, status(500))),
    ("binary_inputs_are_read", MUST, where(is_binary, status(400))),
    ("binary_inputs_are_read", MUST, where(is_binary, other_outputs(lambda output: output["data"].reverse()))),
    ("the_name_of_the_header_has_no_case", MUST, where(is_binary, status(400))),
    ("the_id_comes_back_with_binary_data", MUST, where(is_binary, edited(id=None))),
    ("all_outputs_are_binary_where_asked", MUST, where(body_has(b"binary_data_output"), without_length)),
    ("all_outputs_are_binary_where_asked", MUST, where(body_has(b"binary_data_output"), shorter)),
    ("one_output_is_binary_where_asked", MUST, where(body_has(b"binary_data"), without_length)),
    ("a_wrong_length_is_refused", MUST, refusals(500)),
    ("a_wrong_length_is_refused", MUST, refusals(200)),
    ("a_wrong_size_is_refused", MUST, refusals(500)),
    ("an_element_that_is_too_long_is_refused", MUST, refusals(500)),
    ("the_extension_is_announced", SHOULD, at("/v2", edited(extensions=[]))),
]


def fails(check: Check[Any], case: Any, expected: Outcome) -> None:
    [straight] = run([check], case)
    assert (straight.outcome, straight.detail) == (expected, straight.detail)
    assert straight.detail


def named(checks: Any) -> dict[str, Check[Any]]:
    return {check.name: check for check in checks}


V1 = named([*v1.CHECKS, *rest.CHECKS])
V2 = named([*v2.CHECKS, *rest.CHECKS, *binary.CHECKS])
GRPC = named(grpc_v2.CHECKS)
AWAITED = "ready_means_that_the_model_answers"  # and too_large_is_said: these have their own tests below


@pytest.mark.parametrize(("name", "outcome", "twist"), [*V1_FAULTS, *REST])
def test_a_fault_in_v1_is_found(
    stand_in: StandIn, v1_case: v1.V1Case, name: str, outcome: Outcome, twist: Twist
) -> None:
    stand_in.twist = twist
    fails(V1[name], v1_case, outcome)


@pytest.mark.parametrize(("name", "outcome", "twist"), [*V2_FAULTS, *BINARY_FAULTS, *REST])
def test_a_fault_in_v2_is_found(
    stand_in: StandIn, v2_case: v2.V2Case, name: str, outcome: Outcome, twist: Twist
) -> None:
    stand_in.twist = twist
    fails(V2[name], v2_case, outcome)


# --- Over gRPC --------------------------------------------------------------------------------------------------------


def coded(code: grpc.StatusCode, method: str = "") -> GrpcTwist:
    """Every refusal has this status. method: only for this one."""
    return lambda called, _, answered: Code(code) if isinstance(answered, Code) and method in ("", called) else answered


def changed(method: str, change: Callable[[Any], object]) -> GrpcTwist:
    """Changes the good answer of a method."""

    def twist(called: str, _: Any, answered: Any) -> Any:
        if called == method and not isinstance(answered, Code):
            change(answered)
        return answered

    return twist


def code_for(method: str, code: grpc.StatusCode) -> GrpcTwist:
    return lambda called, _, answered: Code(code) if called == method else answered


def turned_raw(answered: Any) -> None:
    """Its rows are in the wrong order."""
    raw = answered.raw_output_contents[0]
    answered.raw_output_contents[0] = b"".join(raw[start : start + 16] for start in range(0, len(raw), 16)[::-1])


def stale_over_grpc(after: int) -> GrpcTwist:
    answers: list[Any] = []

    def twist(called: str, _: Any, answered: Any) -> Any:
        if called != "ModelInfer":
            return answered
        answers.append(answered)
        return answers[0] if len(answers) > after else answered

    return twist


def infected_over_grpc() -> GrpcTwist:
    bad: list[Any] = []

    def twist(_: str, __: Any, answered: Any) -> Any:
        if isinstance(answered, Code):
            bad.append(answered)
        return Code(grpc.StatusCode.UNAVAILABLE) if bad else answered

    return twist


def all_over_grpc(called: str, request: Any, answered: Any) -> Any:
    """Whichever outputs were requested."""
    if called == "ModelInfer" and request.outputs:
        answered.outputs.add(name="more", datatype="FP32", shape=[1])
        answered.raw_output_contents.append(bytes(4))
    return answered


def without_raw(called: str, request: Any, answered: Any) -> Any:
    """Typed contents are not accepted."""
    return Code(grpc.StatusCode.INTERNAL) if called == "ModelInfer" and not request.raw_input_contents else answered


INTERNAL, OK_ANYWAY = grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION
GRPC_FAULTS: list[tuple[str, Outcome, GrpcTwist]] = [
    ("the_server_is_live_and_ready", MUST, changed("ServerLive", lambda said: said.Clear())),
    ("the_server_is_live_and_ready", MUST, changed("ModelReady", lambda said: said.Clear())),
    ("the_server_describes_itself", MUST, changed("ServerMetadata", lambda said: said.ClearField("name"))),
    ("the_server_describes_itself", SHOULD, changed("ServerMetadata", lambda said: said.ClearField("version"))),
    ("the_model_is_described", MUST, changed("ModelMetadata", lambda said: said.ClearField("inputs"))),
    ("the_model_is_described", MUST, changed("ModelMetadata", lambda said: said.ClearField("name"))),
    ("the_description_is_true", MUST, changed("ModelInfer", lambda said: setattr(said.outputs[0], "name", "other"))),
    ("an_unknown_model_is_not_found", MUST, coded(grpc.StatusCode.UNKNOWN, "ModelReady")),
    ("an_unknown_model_is_not_found", SHOULD, coded(grpc.StatusCode.INVALID_ARGUMENT, "ModelMetadata")),
    ("a_question_is_answered", MUST, changed("ModelInfer", lambda said: said.ClearField("model_name"))),
    ("a_question_is_answered", MUST, changed("ModelInfer", lambda said: said.raw_output_contents.pop())),
    (
        "a_question_is_answered",
        MUST,
        changed("ModelInfer", lambda said: said.outputs[0].contents.fp32_contents.append(1)),
    ),
    ("the_id_comes_back", MUST, changed("ModelInfer", lambda said: said.ClearField("id"))),
    ("an_id_of_any_characters_comes_back", MUST, changed("ModelInfer", lambda said: setattr(said, "id", "?"))),
    ("raw_contents_and_contents_are_the_same", MUST, without_raw),
    ("the_order_is_kept", MUST, changed("ModelInfer", turned_raw)),
    ("only_the_outputs_that_are_asked_come", MUST, all_over_grpc),
    ("each_gets_its_own_answer", MUST, stale_over_grpc(2)),
    ("a_bad_request_harms_no_other", MUST, infected_over_grpc()),
    ("raw_contents_of_a_wrong_size_are_no_defect", MUST, coded(INTERNAL)),
    ("raw_contents_of_a_wrong_size_are_no_defect", SHOULD, coded(OK_ANYWAY)),
    ("raw_contents_for_too_many_inputs_are_no_defect", MUST, coded(INTERNAL)),
    ("contents_beside_raw_contents_are_no_defect", MUST, coded(INTERNAL)),
    ("no_inputs_are_no_defect", MUST, coded(INTERNAL)),
    ("an_unknown_datatype_is_no_defect", MUST, coded(INTERNAL)),
    ("a_negative_shape_is_no_defect", MUST, coded(INTERNAL)),
    ("a_gzip_message_is_read_or_refused", MUST, code_for("ModelInfer", INTERNAL)),
    (
        "a_gzip_message_is_read_or_refused",
        Outcome.NOT_APPLICABLE,
        code_for("ModelInfer", grpc.StatusCode.UNIMPLEMENTED),
    ),
]


@pytest.mark.parametrize(("name", "outcome", "twist"), GRPC_FAULTS)
def test_a_fault_over_grpc_is_found(
    stand_in: StandIn, grpc_case: grpc_calls.GrpcCase, name: str, outcome: Outcome, twist: GrpcTwist
) -> None:
    stand_in.grpc_twist = twist
    fails(GRPC[name], grpc_case, outcome)


# --- Checks with their own tests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("takes", "status", "outcome"),
    [
        (MOST_BYTES, 500, MUST),
        (MOST_BYTES, 400, SHOULD),
        (MOST_BYTES, 0, SHOULD),  # the connection is closed without an answer
        (TOO_LARGE, 413, Outcome.NOT_APPLICABLE),
    ],
)
def test_how_too_large_a_body_is_refused(
    stand_in: StandIn, v2_case: v2.V2Case, takes: int, status: int, outcome: Outcome
) -> None:
    stand_in.takes, stand_in.too_large = takes, status
    fails(V2["too_large_is_said"], v2_case, outcome)


def test_a_message_of_grpc_that_is_not_too_large_says_nothing(grpc_case: grpc_calls.GrpcCase) -> None:
    grpc_case.too_large = 1024
    fails(GRPC["too_large_is_said"], grpc_case, Outcome.NOT_APPLICABLE)


def test_a_message_of_grpc_that_is_too_large_is_no_defect(stand_in: StandIn, grpc_case: grpc_calls.GrpcCase) -> None:
    grpc_case.too_large = 1024
    stand_in.grpc_twist = code_for("ModelInfer", INTERNAL)
    fails(GRPC["too_large_is_said"], grpc_case, MUST)


def test_a_server_without_an_answer_is_found(http: Http, v2_case: v2.V2Case, stand_in: StandIn) -> None:
    stand_in.twist = at(INFER, closed)
    fails(V2["a_question_is_answered"], v2_case, MUST)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_server_that_is_ready_too_early_is_found(
    listening: tuple[StandIn, str, str], stand_in: StandIn, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.twist = lambda request, reply: reply._replace(status=503) if request.method == "POST" else reply
    assert main([listening[1], "--protocol", protocol, "--loading", "5", "--model", NAME, "--json"]) == 1
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["check"] == AWAITED]
    assert found["outcome"] == "failed"


def test_a_server_that_is_ready_too_early_is_found_over_grpc(
    listening: tuple[StandIn, str, str], stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.grpc_twist = code_for("ModelInfer", grpc.StatusCode.UNAVAILABLE)
    assert main([f"grpc://{listening[2]}", "--loading", "5", "--model", NAME, "--json"]) == 1
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["check"] == AWAITED]
    assert found["outcome"] == "failed"


@pytest.mark.parametrize("status", [400, 404, 503])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_server_that_answers_only_some_time_after_it_is_ready_is_found(
    listening: tuple[StandIn, str, str],
    stand_in: StandIn,
    protocol: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever it says until then: MLServer answers 400 for a model that is not ready."""
    left = [None] * 5

    def loading(request: Request, reply: Reply) -> Reply:
        if request.method == "POST" and left:
            left.pop()
            return reply._replace(status=status)
        return reply

    stand_in.twist = loading
    assert main([listening[1], "--protocol", protocol, "--loading", "30", "--model", NAME, "--json"]) == 1
    failed = [each for each in json.loads(capsys.readouterr().out) if each["outcome"] == "failed"]
    assert [each["check"] for each in failed] == [AWAITED]
    assert f"got {status} " in failed[0]["detail"]


def test_an_unknown_method_is_not_answered_as_a_known_one(grpc_case: grpc_calls.GrpcCase) -> None:
    """The stand-in has no method of that name; this server answers everything."""
    grpc_case.call = lambda *_: grpc_calls.Said(grpc.StatusCode.OK, "", None)  # type: ignore[method-assign]
    fails(GRPC["an_unknown_method_is_unimplemented"], grpc_case, MUST)


def test_each_check_is_shown_to_fail() -> None:
    of_its_own = {AWAITED, "too_large_is_said", "an_unknown_method_is_unimplemented"}
    shown = {name for name, outcome, _ in [*V1_FAULTS, *V2_FAULTS, *BINARY_FAULTS, *REST] if outcome in (MUST, SHOULD)}
    assert {*V1, *V2} - shown == of_its_own & {*V1, *V2}
    assert {*GRPC} - {name for name, outcome, _ in GRPC_FAULTS if outcome in (MUST, SHOULD)} == of_its_own & {*GRPC}


@pytest.mark.parametrize("check", [*V1.values(), *V2.values(), *GRPC.values()], ids=lambda check: check.name)
def test_each_check_has_a_sentence_and_a_source(check: Check[Any]) -> None:
    assert check.sentence.endswith((".", "binary_tensor_data."))
    assert check.source.url.startswith("https://")


# --- Servers that answer anything -------------------------------------------------------------------------------------

STRANGE: list[object] = [
    *(None, 7, "text", [], [7], {}, {"predictions": 7}, {"predictions": [], "explanations": 7}),
    *({"models": [[]]}, {"name": 7, "ready": {}}, {"versions": 7, "inputs": 7, "outputs": {}, "extensions": 7}),
    {"inputs": [7], "outputs": [7], "versions": [7]},
    {"inputs": [{"name": "a", "datatype": "FP32", "shape": [2**40, 2**40]}], "outputs": []},
    {"inputs": [{"name": "a", "datatype": "FP32", "shape": [0]}], "outputs": []},
    {"inputs": [{"name": "a", "datatype": "BF16", "shape": []}], "outputs": [{"name": "a"}]},
    {"outputs": [{"name": "a", "datatype": "FP32", "shape": [2**40], "data": [1]}]},
    {"outputs": [{"name": "a", "datatype": 7, "shape": [1], "data": [1]}]},
    {"outputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": 7}]},
    {"outputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": "x"}}]},
    {"outputs": [{"name": "a", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 2}}]},
    {"outputs": [{"name": "a", "datatype": "BF16", "shape": [1], "parameters": {"binary_data_size": 2}}]},
    {"outputs": [{"name": "a", "datatype": "FP32", "shape": [0, 4], "data": []}]},
    {"outputs": [{"name": "a", "datatype": "FP32", "shape": [2**40, 0], "data": []}]},
]


@pytest.mark.parametrize("length", ["", "99999999999999999999"])
@pytest.mark.parametrize("body", STRANGE, ids=lambda body: json.dumps(body)[:60])
def test_no_answer_ends_the_kit_itself(
    stand_in: StandIn, v1_case: v1.V1Case, v2_case: v2.V2Case, body: object, length: str
) -> None:
    reply = say(body)._replace(headers={LENGTH: length} if length else {})
    stand_in.twist = lambda *_: reply
    for checks, case in ((V1, v1_case), (V2, v2_case)):
        for look_again in (False, True):
            if look_again:
                case.look([])
            outcomes = {result.outcome for result in run(checks.values(), case)}
            assert MUST in outcomes
