"""The binary tensor data extension of V2, which is optional."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conformance import sources
from conformance.checking import Checks, Failed, must, not_applicable, should
from conformance.http import Reply
from conformance.rest import not_blamed_on_the_server, refused
from conformance.tensors import Question, Tensor, alike, from_json, from_raw
from conformance.v2 import V2Case

LENGTH = "Inference-Header-Content-Length"
EXTENSION = "binary_tensor_data"  # as in Triton's server metadata

CHECKS: Checks[V2Case] = Checks()


def packed(question: Question, **more: Any) -> tuple[bytes, bytes]:
    """→ the JSON, and the bytes after it."""
    raws = [tensor.to_raw() for tensor in question]
    inputs = [
        {**tensor.head(), "parameters": {"binary_data_size": len(raw)}}
        for tensor, raw in zip(question, raws, strict=True)
    ]
    return json.dumps({"inputs": inputs, **more}).encode(), b"".join(raws)


def sent(case: V2Case, head: bytes, tail: bytes, length: object = None, name: str = LENGTH) -> Reply:
    """length: replaces the true one."""
    headers = {"Content-Type": "application/octet-stream", name: str(len(head) if length is None else length)}
    return case.ask(head + tail, headers)


def offered(case: V2Case) -> None:
    """Raises NotApplicable if the server lacks the extension: it neither announces it nor accepts binary data."""
    if sent(case, *packed(case.question)).status != 200 and EXTENSION not in extensions(case):
        not_applicable("the server does not have the extension, which is optional")


def extensions(case: V2Case) -> list[str]:
    try:
        names = case.http.get("/v2").object.get("extensions")
    except Failed:
        return []
    return names if isinstance(names, list) else []


def divided(reply: Reply) -> tuple[dict[str, Any], bytes]:
    """An answer → its JSON, and the bytes after it. Raises Failed if the header is wrong."""
    must(reply.status == 200, "200", reply)
    length = reply.headers.get(LENGTH.lower(), str(len(reply.body)))
    fine = length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(reply.body)
    must(fine, f"{LENGTH}: at most {len(reply.body)}", length)
    end = int(length)
    return Reply(reply.status, reply.headers, reply.body[:end]).object, reply.body[end:]


def outputs(reply: Reply) -> list[Tensor]:
    """The outputs of an answer, with or without binary data. Raises Failed if it violates the extension."""
    head, rest = divided(reply)
    found = []
    for output in _listed(head):
        parameters = output.get("parameters") if isinstance(output, Mapping) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
        if size is None:
            found.append(from_json(output))
            continue
        must(type(size) is int and 0 <= size <= len(rest), f"binary_data_size: at most {len(rest)}", size)
        found.append(from_raw(output, rest[:size]))
        rest = rest[size:]
    must(not rest, "nothing after the last output", f"{len(rest)} bytes")
    return found


def _listed(body: Mapping[str, Any]) -> list[Any]:
    listed = body.get("outputs")
    must(isinstance(listed, list) and bool(listed), '"outputs": a list', body)
    return list(listed or [])


def values(tensors: list[Tensor]) -> dict[str, Any]:
    return {tensor.name: [list(tensor.shape), list(tensor.values)] for tensor in tensors}


def in_json(case: V2Case) -> dict[str, Any]:
    return values(case.outputs(case.ask(case.body(case.question))))


@CHECKS.by(sources.CLIENT_ERROR)
def binary_data_is_read_or_refused(case: V2Case) -> None:
    """A server without the extension refuses binary data with a 4xx."""
    reply = sent(case, *packed(case.question))
    must(reply.status < 500, "200, or a status from 400 to 499", reply)


@CHECKS.by(sources.BINARY)
def binary_inputs_are_read(case: V2Case) -> None:
    """Inputs sent as binary data get the same answer as in JSON."""
    offered(case)
    reply = sent(case, *packed(case.question))
    must(alike(values(outputs(reply)), in_json(case)), "the same answer as for JSON", reply)


@CHECKS.by(sources.FIELD_NAMES)
def the_name_of_the_header_has_no_case(case: V2Case) -> None:
    """The case of Inference-Header-Content-Length does not matter: inference-header-content-length works too."""
    offered(case)
    for name in (LENGTH.lower(), LENGTH.upper()):
        reply = sent(case, *packed(case.question), name=name)
        must(reply.status == 200, f"200 with {name}", reply)


@CHECKS.by(sources.BINARY)
def the_id_comes_back_with_binary_data(case: V2Case) -> None:
    """An "id" is returned with binary data too."""
    offered(case)
    reply = sent(case, *packed(case.question, id="42"))
    said = divided(reply)[0].get("id")
    must(said == "42", '"id": "42"', said)


@CHECKS.by(sources.BINARY)
def all_outputs_are_binary_where_asked(case: V2Case) -> None:
    """With binary_data_output: true, every output is binary, and the header gives the JSON's length."""
    offered(case)
    reply = case.ask({**case.body(case.question), "parameters": {"binary_data_output": True}})
    head, _ = divided(reply)
    must(LENGTH.lower() in reply.headers, f"the header {LENGTH}", "none")
    in_json_too = [output for output in _listed(head) if not isinstance(output, Mapping) or "data" in output]
    must(not in_json_too, "no output in JSON", in_json_too)
    must(alike(values(outputs(reply)), in_json(case)), "the same values as in JSON", values(outputs(reply)))
    kind = reply.headers.get("content-type", "none")
    should(kind.startswith("application/octet-stream"), "Content-Type: application/octet-stream", kind)


@CHECKS.by(sources.BINARY)
def one_output_is_binary_where_asked(case: V2Case) -> None:
    """With binary_data: true for one output, that output is binary; with false, it is JSON."""
    offered(case)
    names = [tensor.name for tensor in case.outputs(case.ask(case.body(case.question)))]
    for wanted, flag in ((names[0], True), (names[-1], False)):
        asked = [{"name": wanted, "parameters": {"binary_data": flag}}]
        reply = case.ask({**case.body(case.question), "outputs": asked})
        must(reply.status == 200, "200", reply)
        must((LENGTH.lower() in reply.headers) is flag, f"binary_data: {flag} for {wanted!r} obeyed", reply.headers)
        same = alike(values(outputs(reply)), {wanted: in_json(case)[wanted]})
        must(same, "the same values as in JSON", outputs(reply))


@CHECKS.by(sources.BINARY)
def a_wrong_length_is_refused(case: V2Case) -> None:
    """A header with more bytes than there are, or without a number, is refused."""
    offered(case)
    head, tail = packed(case.question)
    for length in (len(head) + len(tail) + 1, -1, "many", 2**70):
        refused(sent(case, head, tail, length))


@CHECKS.by(sources.BINARY)
def a_wrong_size_is_refused(case: V2Case) -> None:
    """A binary_data_size that differs from the data's, or is negative, is the client's fault, not the server's."""
    offered(case)
    head, tail = packed(case.question)
    size = len(case.question[0].to_raw())
    for wrong in (size + 1, size - 1, -1, 2**62):
        other = head.replace(f'"binary_data_size": {size}'.encode(), f'"binary_data_size": {wrong}'.encode(), 1)
        not_blamed_on_the_server(sent(case, other, tail))


@CHECKS.by(sources.BINARY)
def an_element_that_is_too_long_is_refused(case: V2Case) -> None:
    """A length before a BYTES element that exceeds the data is the client's fault, not the server's."""
    offered(case)
    texts = [tensor for tensor in case.question if tensor.datatype == "BYTES"]
    if not texts:
        not_applicable("the model takes no BYTES")
    head, tail = packed(case.question)
    raw = texts[0].to_raw()
    not_blamed_on_the_server(sent(case, head, tail.replace(raw[:4], b"\xff\xff\xff\xff", 1)))


@CHECKS.by(sources.SERVER_METADATA)
def the_extension_is_announced(case: V2Case) -> None:
    """A server that has the extension names it in GET /v2: binary_tensor_data."""
    offered(case)
    names = extensions(case)
    should(EXTENSION in names, f'"{EXTENSION}" in "extensions"', names)
