"""A small server that follows the protocol, and whose answers a test may distort.

Its model doubles four numbers, and repeats a text next to them: v1 takes only the numbers.
"""

from __future__ import annotations

import gzip
import json
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc

from conformance.messages import METHODS, SERVICE, message

NAME, VERSION = "doubler", "1"
MOST_BYTES = 1 << 20
LENGTH = "Inference-Header-Content-Length"
INPUTS = [
    {"name": "numbers", "datatype": "FP32", "shape": [-1, 4]},
    {"name": "text", "datatype": "BYTES", "shape": [-1, 1]},
]
OUTPUTS = [{**INPUTS[0], "name": "doubled"}, {**INPUTS[1], "name": "repeated"}]


class Refusal(Exception):
    """The client's fault; the text says what it is."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


class Request(NamedTuple):
    """headers: names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def say(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


# --- What is right ----------------------------------------------------------------------------------------------------

Values = dict[str, tuple[list[int], list[Any]]]  # name → shape, flat values


def double(inputs: Values) -> Values:
    """Raises Refusal."""
    if sorted(inputs) != ["numbers", "text"]:
        raise Refusal(400, "inputs: numbers and text are expected")
    shape, numbers = inputs["numbers"]
    if shape[1:] != [4] or not all(type(number) in (int, float) for number in numbers):
        raise Refusal(400, "numbers: four numbers in each row are expected")
    if inputs["text"][0] != [shape[0], 1]:
        raise Refusal(400, "text: one for each row is expected")
    return {"doubled": (shape, [2 * number for number in numbers]), "repeated": inputs["text"]}


def checked(name: object, datatype: object, shape: Any) -> int:
    """→ how many elements. Raises Refusal."""
    known = {tensor["name"]: tensor["datatype"] for tensor in INPUTS}
    if not isinstance(name, str) or known.get(name) != datatype:
        raise Refusal(400, f"inputs: no input {name!r} of {datatype!r}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise Refusal(400, f"{name}: a shape is a list of sizes")
    return math.prod(shape)


def unpacked(name: str, datatype: str, raw: bytes, count: int) -> list[Any]:
    """Raises Refusal."""
    values: list[Any] = []
    if datatype == "FP32":
        if len(raw) != 4 * count:
            raise Refusal(400, f"{name}: not as many bytes as its shape says")
        return list(struct.unpack(f"<{count}f", raw))
    while raw:
        length = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 + length:
            raise Refusal(400, f"{name}: an element is not whole")
        values.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    if len(values) != count:
        raise Refusal(400, f"{name}: not as many elements as its shape says")
    return values


def packed(values: list[Any]) -> bytes:
    if values and isinstance(values[0], (int, float)):
        return struct.pack(f"<{len(values)}f", *values)
    return b"".join(struct.pack("<I", len(each)) + each for each in map(encoded, values))


def encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def flat(data: Any) -> list[Any]:
    return [leaf for part in data for leaf in flat(part)] if isinstance(data, list) else [data]


def predict(request: Request) -> Reply:
    body = parsed(request.body)
    instances = body.get("instances", body.get("inputs"))
    if not isinstance(instances, list):
        raise Refusal(400, "instances: a list is expected")
    fine = all(isinstance(each, list) and len(each) == 4 and not isinstance(each[0], list) for each in instances)
    if not fine:
        raise Refusal(400, "instances: lists of four numbers are expected")
    return say({"predictions": [[2 * number for number in each] for each in instances]})


def infer(request: Request) -> Reply:
    length = request.headers.get(LENGTH.lower())
    if length is not None and not (length.isdigit() and int(length) <= len(request.body)):
        raise Refusal(400, f"{LENGTH}: {length} is no length of this body")
    end = len(request.body) if length is None else int(length)
    body, rest = parsed(request.body[:end]), request.body[end:]
    inputs: Values = {}
    if not isinstance(body.get("inputs"), list):
        raise Refusal(400, "inputs: a list is expected")
    for tensor in body["inputs"]:
        count = checked(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"))
        name, size = tensor["name"], tensor.get("parameters", {}).get("binary_data_size")
        if size is not None:
            if not 0 <= size <= len(rest):
                raise Refusal(400, f"{name}: {size} is no size of what is there")
            values, rest = unpacked(name, tensor["datatype"], rest[:size], count), rest[size:]
        elif isinstance(tensor.get("data"), list):
            values = flat(tensor["data"])
        else:
            raise Refusal(400, f"{name}: no data")
        if len(values) != count:
            raise Refusal(400, f"{name}: not as much data as its shape says")
        inputs[name] = (tensor["shape"], values)
    if rest:
        raise Refusal(400, "body: there is something behind the last tensor")
    return in_tensors(body, double(inputs))


def in_tensors(body: dict[str, Any], answers: Values) -> Reply:
    wanted = body.get("outputs") or [{"name": output["name"]} for output in OUTPUTS]
    types = {output["name"]: output["datatype"] for output in OUTPUTS}
    outputs, raws = [], []
    for output in wanted:
        name = output["name"]
        if name not in answers:
            raise Refusal(400, f"outputs: there is no {name!r}")
        shape, values = answers[name]
        entry: dict[str, Any] = {"name": name, "datatype": types[name], "shape": shape}
        binary = body.get("parameters", {}).get("binary_data_output", False)
        if output.get("parameters", {}).get("binary_data", binary):
            raws.append(packed(values))
            entry["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            entry["data"] = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
        outputs.append(entry)
    said = {"model_name": NAME, "outputs": outputs, **({"id": body["id"]} if "id" in body else {})}
    reply = say(said)
    if not raws:
        return reply
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(reply.body))}
    return Reply(200, reply.body + b"".join(raws), headers)


def parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "body: not JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "body: an object is expected")
    return value


METADATA = {"name": NAME, "versions": [VERSION], "platform": "none", "inputs": INPUTS, "outputs": OUTPUTS}
GET: dict[str, Any] = {
    "/v1/models": {"models": [NAME]},
    f"/v1/models/{NAME}": {"name": NAME, "ready": True},
    "/v2": {"name": "stand-in", "version": "1", "extensions": ["binary_tensor_data"]},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
}
POST: dict[str, Callable[[Request], Reply]] = {
    f"/v1/models/{NAME}:predict": predict,
    f"/v1/models/{NAME}:explain": lambda request: say({**predict(request).json, "explanations": []}),
}
for model in (f"/v2/models/{NAME}", f"/v2/models/{NAME}/versions/{VERSION}"):
    GET |= {model: METADATA, f"{model}/ready": {"name": NAME, "ready": True}}
    POST[f"{model}/infer"] = infer


def answer(request: Request) -> Reply:
    try:
        if request.headers.get("content-encoding") == "gzip":
            request = request._replace(body=gzip.decompress(request.body))
        if request.method == "POST" and request.path in POST:
            return POST[request.path](request)
        if request.method == "GET" and request.path in GET:
            return say(GET[request.path])
        if request.path in {*POST, *GET}:
            refused = say({"error": "method: not here"}, 405)
            return refused._replace(headers={**refused.headers, "Allow": "POST" if request.path in POST else "GET"})
        raise Refusal(404, "path: there is nothing here")
    except Refusal as refusal:
        return say({"error": str(refusal)}, refusal.status)


# --- gRPC -------------------------------------------------------------------------------------------------------------


def model_infer(request: Any) -> Any:
    """Raises Refusal."""
    named(request.model_name)
    raws = list(request.raw_input_contents)
    if raws and len(raws) != len(request.inputs):
        raise Refusal(400, "raw_input_contents: as many as inputs are expected")
    inputs: Values = {}
    for at, tensor in enumerate(request.inputs):
        count = checked(tensor.name, tensor.datatype, list(tensor.shape))
        if raws:
            if tensor.HasField("contents"):
                raise Refusal(400, "contents: not beside raw_input_contents")
            values = unpacked(tensor.name, tensor.datatype, raws[at], count)
        else:
            contents = tensor.contents
            values = list(contents.fp32_contents if tensor.datatype == "FP32" else contents.bytes_contents)
            if len(values) != count:
                raise Refusal(400, f"{tensor.name}: not as many elements as its shape says")
        inputs[tensor.name] = (list(tensor.shape), values)
    answers = double(inputs)
    response = message("ModelInferResponse")(model_name=NAME, id=request.id)
    for output in OUTPUTS:
        if not request.outputs or output["name"] in [wanted.name for wanted in request.outputs]:
            shape, values = answers[str(output["name"])]
            response.outputs.add(name=output["name"], datatype=output["datatype"], shape=shape)
            response.raw_output_contents.append(packed(values))
    return response


def named(name: str) -> None:
    if name != NAME:
        raise Refusal(404, "model: there is none of this name")


def model_metadata(request: Any) -> Any:
    named(request.name)
    response = message("ModelMetadataResponse")(name=NAME, versions=[VERSION], platform="none")
    for side, tensors in ((response.inputs, INPUTS), (response.outputs, OUTPUTS)):
        for tensor in tensors:
            side.add(**tensor)
    return response


def model_ready(request: Any) -> Any:
    named(request.name)
    return message("ModelReadyResponse")(ready=True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "ServerLive": lambda _: message("ServerLiveResponse")(live=True),
    "ServerReady": lambda _: message("ServerReadyResponse")(ready=True),
    "ServerMetadata": lambda _: message("ServerMetadataResponse")(name="stand-in", version="1"),
    "ModelReady": model_ready,
    "ModelMetadata": model_metadata,
    "ModelInfer": model_infer,
}

# --- What may be wrong ------------------------------------------------------------------------------------------------


class Code(Exception):
    """This status replaces an answer over gRPC."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code


Twist = Callable[[Request, Reply], Reply | None]  # None: the connection is closed without an answer
GrpcTwist = Callable[[str, Any, Any], Any]  # method, request, answer (or Code) → answer (or Code)


class StandIn:
    """twist, grpc_twist: change each right answer."""

    def __init__(self) -> None:
        self.straight()

    def straight(self) -> None:
        """Answers are right again."""
        self.twist: Twist = lambda _, reply: reply
        self.grpc_twist: GrpcTwist = lambda _, __, answered: answered
        self.takes = MOST_BYTES
        self.too_large = 413

    def http(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do_any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if size > outer.takes:
                    self.close_connection = True
                    if outer.too_large:
                        self._send(say({"error": "body: too large"}, outer.too_large))
                    self.connection.shutdown(socket.SHUT_WR)
                    while self.rfile.read(65536):  # so that the answer is not lost
                        pass
                    return
                request = Request(self.command, self.path, headers, self.rfile.read(size))
                reply = outer.twist(request, answer(request))
                if reply is None:
                    self.close_connection = True
                else:
                    self._send(reply)

            do_GET = do_POST = do_any  # noqa: N815

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

        return Handler

    def call(self, method: str, request: Any) -> Any:
        try:
            answered = CALLS[method](request)
        except Refusal as refusal:
            missing = refusal.status == 404
            answered = Code(grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT)
        return self.grpc_twist(method, request, answered)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients that connect at once


@contextmanager
def serving(stand_in: StandIn) -> Iterator[tuple[str, str]]:
    """→ http://HOST:PORT and HOST:PORT of gRPC."""
    server = Server(("127.0.0.1", 0), stand_in.http())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def handler(method: str) -> Any:
        def call(request: Any, context: Any) -> Any:
            answered = stand_in.call(method, request)
            if isinstance(answered, Code):
                context.abort(answered.code, "refused")
            return answered

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=lambda answered: answered.SerializeToString(),
        )

    over_grpc = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", MOST_BYTES)])
    handlers = grpc.method_handlers_generic_handler(SERVICE, {method: handler(method) for method in METHODS})
    over_grpc.add_generic_rpc_handlers((handlers,))
    port = over_grpc.add_insecure_port("127.0.0.1:0")
    over_grpc.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", f"127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        over_grpc.stop(None).wait()
