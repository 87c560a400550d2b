"""The Open Inference Protocol (V2) over gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from conformance import sources
from conformance.checking import Checks, must, not_applicable, should
from conformance.grpc_calls import CONTENTS, GrpcCase, Said, outputs, rows
from conformance.messages import message
from conformance.rest import AT_ONCE, UNKNOWN
from conformance.tensors import agree, alike, takes_batches

# https://grpc.io/docs/guides/status-codes/: these mean that the server, or the path to it, has a defect.
BLAMES_THE_SERVER = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


def not_blamed_on_the_server(said: Said) -> None:
    must(said.code not in BLAMES_THE_SERVER, "no status that blames the server for a client's fault", said)
    should(said.code is grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", said)


CHECKS: Checks[GrpcCase] = Checks()

# --- Health and metadata ----------------------------------------------------------------------------------------------


@CHECKS.by(sources.GRPC_HEALTH)
def ready_means_that_the_model_answers(case: GrpcCase) -> None:
    """As soon as ModelReady says so, the model answers."""
    if not case.was_awaited:
        not_applicable("it was ready already: with --loading, start this before the server")
    must(case.too_early is None, "an answer, as it says that it is ready", case.too_early)
    for said in case.tried if not case.questions else []:
        must(said.code not in BLAMES_THE_SERVER, "an answer, as it says that it is ready", said)
    case.question  # noqa: B018 - not applicable if there is none


@CHECKS.by(sources.GRPC_HEALTH)
def the_server_is_live_and_ready(case: GrpcCase) -> None:
    """ServerLive, ServerReady and ModelReady are OK and true when all is well."""
    for method, request, key in (
        ("ServerLive", None, "live"),
        ("ServerReady", None, "ready"),
        ("ModelReady", message("ModelReadyRequest")(name=case.model), "ready"),
    ):
        said = case.call(method, request)
        must(said.is_ok and getattr(said.message, key), f"{method} with {key}: true", said)


@CHECKS.by(sources.GRPC_METADATA)
def the_server_describes_itself(case: GrpcCase) -> None:
    """ServerMetadata has the server's name and version."""
    said = case.call("ServerMetadata")
    must(said.is_ok, "OK", said)
    must(bool(said.message.name), "a name", "none")
    should(bool(said.message.version), "a version", "none")


@CHECKS.by(sources.GRPC_METADATA)
def the_model_is_described(case: GrpcCase) -> None:
    """ModelMetadata has the model's name, and its inputs and outputs as tensors."""
    said = case.call("ModelMetadata", message("ModelMetadataRequest")(name=case.model))
    must(said.is_ok, "OK", said)
    must(said.message.name == case.model, f"the name {case.model!r}", repr(said.message.name))
    must(bool(said.message.inputs), "the inputs of the model", "none")
    must(bool(said.message.outputs), "the outputs of the model", "none")


@CHECKS.by(sources.GRPC_METADATA)
def the_description_is_true(case: GrpcCase) -> None:
    """The model accepts the inputs that ModelMetadata describes, and its outputs match ModelMetadata."""
    if not case.metadata.get("inputs") or not case.metadata.get("outputs"):
        not_applicable("the metadata has no tensors: the check before this one says so")
    agree(case.metadata, outputs(case.infer(case.question)))


@CHECKS.by(sources.GRPC_STATUS)
def an_unknown_model_is_not_found(case: GrpcCase) -> None:
    """An unknown model is NOT_FOUND for ModelInfer, ModelMetadata and ModelReady (or not ready)."""
    ready = case.call("ModelReady", message("ModelReadyRequest")(name=UNKNOWN))
    infer = message("ModelInferRequest")(model_name=UNKNOWN)
    if case.questions:
        infer = case.request(case.questions[0], model_name=UNKNOWN)
    others = [
        case.call("ModelInfer", infer),
        case.call("ModelMetadata", message("ModelMetadataRequest")(name=UNKNOWN)),
    ]
    must(not (ready.is_ok and ready.message.ready), "ModelReady not true", ready)
    for said in [ready, *others]:
        must(said.code not in BLAMES_THE_SERVER, "no status that blames the server for a client's fault", said)
    for said in others:
        must(not said.is_ok, "NOT_FOUND", said)
    for said in [*others, *([] if ready.is_ok else [ready])]:
        should(said.code is grpc.StatusCode.NOT_FOUND, "NOT_FOUND", said)


# --- Inference --------------------------------------------------------------------------------------------------------


@CHECKS.by(sources.GRPC_INFER)
def a_question_is_answered(case: GrpcCase) -> None:
    """ModelInfer answers with the model's name, and outputs whose contents match their shapes."""
    said = case.infer(case.question)
    outputs(said)
    must(said.message.model_name == case.model, f"model_name {case.model!r}", repr(said.message.model_name))


@CHECKS.by(sources.GRPC_INFER)
def the_id_comes_back(case: GrpcCase) -> None:
    """The request's id is returned."""
    _id_comes_back(case, "42")


@CHECKS.by(sources.GRPC_INFER)
def an_id_of_any_characters_comes_back(case: GrpcCase) -> None:
    """An id is an ordinary string: spaces, a slash and non-Latin letters are returned too."""
    _id_comes_back(case, "a b/c ✓ käse")


def _id_comes_back(case: GrpcCase, given: str) -> None:
    said = case.infer(case.question, id=given)
    must(said.is_ok and said.message.id == given, f"the id {given!r}", repr(said.message.id) if said.is_ok else said)


@CHECKS.by(sources.GRPC_TENSOR_DATA)
def raw_contents_and_contents_are_the_same(case: GrpcCase) -> None:
    """The same tensors as raw_input_contents and as typed contents get the same answer."""
    if any(tensor.datatype not in CONTENTS for tensor in case.question):
        not_applicable("the datatype has no contents")
    said = case.infer(case.question, raw=False)
    must(alike(rows(said), case.answer(case.question)), "the same answer as for raw contents", said)


@CHECKS.by(sources.GRPC_INFER)
def the_order_is_kept(case: GrpcCase) -> None:
    """The rows of the outputs are in the order of the inputs' rows."""
    if not takes_batches(case.metadata):
        not_applicable("the model takes no batch: its first dimension is not -1")
    first, second = case.two
    alone = [*case.answer(first), *case.answer(second)]
    for questions, expected in (((first, second), alone), ((second, first), alone[::-1])):
        got = case.answer(*questions)
        must(alike(got, expected), "each row where its question was", got)


@CHECKS.by(sources.GRPC_INFER)
def only_the_outputs_that_are_asked_come(case: GrpcCase) -> None:
    """With outputs, only those are returned."""
    wanted = message("ModelInferRequest")().outputs
    for tensor in outputs(case.infer(case.question)):
        del wanted[:]
        wanted.add(name=tensor.name)
        got = [output.name for output in outputs(case.infer(case.question, outputs=wanted))]
        must(got == [tensor.name], f"only {[tensor.name]}", got)


@CHECKS.by(sources.GRPC_STATUS)
def each_gets_its_own_answer(case: GrpcCase) -> None:
    """When many clients ask at once, each gets its own answer."""
    alone = [case.answer(question) for question in case.two]
    for number, said in enumerate(at_once(case, [case.request(question) for question in case.two] * (2 * AT_ONCE))):
        must(alike(rows(said), alone[number % 2]), "the answer that the same question has alone", said)


@CHECKS.by(sources.GRPC_STATUS)
def a_bad_request_harms_no_other(case: GrpcCase) -> None:
    """Good requests at the same time as bad ones get the same answers as alone."""
    alone = case.answer(case.question)
    answers = at_once(case, [case.request(case.question), case.wrong_request()] * (2 * AT_ONCE))
    for said in answers[::2]:
        must(said.is_ok and alike(rows(said), alone), "the answer that it has alone", said)


def at_once(case: GrpcCase, requests: list[Any]) -> list[Said]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda request: case.call("ModelInfer", request), requests))


# --- What is wrong with a request -------------------------------------------------------------------------------------


@CHECKS.by(sources.GRPC_INFER)
def raw_contents_of_a_wrong_size_are_no_defect(case: GrpcCase) -> None:
    """Raw contents whose length does not match shape and datatype are the client's fault: INVALID_ARGUMENT."""
    not_blamed_on_the_server(case.call("ModelInfer", case.wrong_request()))


@CHECKS.by(sources.GRPC_INFER)
def raw_contents_for_too_many_inputs_are_no_defect(case: GrpcCase) -> None:
    """More raw contents than inputs are the client's fault: INVALID_ARGUMENT."""
    request = case.request(case.question)
    request.raw_input_contents.append(b"more")
    not_blamed_on_the_server(case.call("ModelInfer", request))


@CHECKS.by(sources.GRPC_INFER)
def contents_beside_raw_contents_are_no_defect(case: GrpcCase) -> None:
    """Contents next to raw contents, which the protocol forbids, are the client's fault: INVALID_ARGUMENT."""
    request = case.request(case.question)
    request.inputs[0].contents.fp32_contents.append(1)
    not_blamed_on_the_server(case.call("ModelInfer", request))


@CHECKS.by(sources.GRPC_INFER)
def no_inputs_are_no_defect(case: GrpcCase) -> None:
    """A call without inputs is the client's fault: INVALID_ARGUMENT."""
    not_blamed_on_the_server(case.call("ModelInfer", message("ModelInferRequest")(model_name=case.model)))


@CHECKS.by(sources.GRPC_INFER)
def an_unknown_datatype_is_no_defect(case: GrpcCase) -> None:
    """An unknown datatype is the client's fault: INVALID_ARGUMENT."""
    request = case.request(case.question)
    request.inputs[0].datatype = "FP31"
    not_blamed_on_the_server(case.call("ModelInfer", request))


@CHECKS.by(sources.GRPC_INFER)
def a_negative_shape_is_no_defect(case: GrpcCase) -> None:
    """A negative dimension is the client's fault: INVALID_ARGUMENT."""
    request = case.request(case.question)
    request.inputs[0].shape[0] = -1
    not_blamed_on_the_server(case.call("ModelInfer", request))


@CHECKS.by(sources.GRPC_STATUS)
def too_large_is_said(case: GrpcCase) -> None:
    """A message beyond the server's limit gets RESOURCE_EXHAUSTED, and is neither a hang nor a defect."""
    request = case.request(case.question)
    request.parameters["conformance"].string_param = "x" * case.too_large
    said = case.call("ModelInfer", request)
    size = f"{case.too_large >> 20} MiB"
    if said.is_ok:
        not_applicable(f"{size} are accepted: the limit is higher, or there is none (--too-large sends more)")
    must(said.code not in BLAMES_THE_SERVER, f"RESOURCE_EXHAUSTED for {size}", said)
    should(said.code is grpc.StatusCode.RESOURCE_EXHAUSTED, f"RESOURCE_EXHAUSTED for {size}", said)


@CHECKS.by(sources.GRPC_COMPRESSION)
def a_gzip_message_is_read_or_refused(case: GrpcCase) -> None:
    """A message compressed with gzip is read like any other, or refused with UNIMPLEMENTED."""
    said = case.call("ModelInfer", case.request(case.question), grpc.Compression.Gzip)
    if said.code is grpc.StatusCode.UNIMPLEMENTED:
        not_applicable("the server does not accept gzip, and says so")
    must(alike(rows(said), case.answer(case.question)), "the same answer as without gzip", said)


@CHECKS.by(sources.GRPC_STATUS)
def an_unknown_method_is_unimplemented(case: GrpcCase) -> None:
    """An unknown method is UNIMPLEMENTED."""
    said = case.call("NoSuchMethod")
    must(said.code is grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", said)
