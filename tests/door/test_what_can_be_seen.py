"""Metrics, the log and traces: their content, and that they contain none of a client's own text.

Envoy writes its log once a second and its histograms every five, so tests wait for what they expect.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.server_log import ServerLog
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports, free_ports
from server import spans
from server.door import Door
from server.errors import NotServed
from server.folder import Address
from server.metrics import FAMILIES, of_door
from tests.support.collector import Collector, Span
from tests.support.in_a_thread import in_a_thread
from tests.support.waiting import Eventually

pytestmark = pytest.mark.usefixtures("one_worker")

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
STAGES = ["queue", "decode", "forward"]
SECRET = "geheim"  # pragma: allowlist secret


class Seen:
    """A server, and what it logs."""

    def __init__(self, server: TorchServe, lines: list[str]) -> None:
        self.server, self.lines = server, lines
        self.http = httpx.Client(base_url=server.url, timeout=60, trust_env=False)
        self.route = server.predict_url.removeprefix(server.url)

    def entries(self, **wanted: object) -> list[dict[str, Any]]:
        """The door's log entries with these values."""
        entries = [json.loads(line) for line in list(self.lines)]
        ours = [entry for entry in entries if entry["logger"] == "door"]
        return [entry for entry in ours if all(entry.get(name) == value for name, value in wanted.items())]

    def samples(self) -> dict[str, list[Sample]]:
        """By family name; checks that each family appears once."""
        text = httpx.get(f"{self.server.metrics_url}/metrics", timeout=60, trust_env=False).text
        return families(text)

    def predict(self, *files: Path, **headers: str) -> httpx.Response:
        instances = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]
        return self.http.post(self.route, json={"instances": instances}, headers=headers)


def families(text: str) -> dict[str, list[Sample]]:
    found: defaultdict[str, list[Sample]] = defaultdict(list)  # empty: nothing counted yet
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} is there twice"
        found[family.name] = list(family.samples)
    return found


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The value of the one sample with these labels; 0 if there is none yet."""
    fitting = [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]
    assert len(fitting) <= 1, (name, labels)
    return fitting[0] if fitting else 0


class Recorded(ServerLog):
    """Keeps each line as it was printed."""

    def __init__(self) -> None:
        super().__init__(MODEL_NAME, lambda _: None)
        self.lines: list[str] = []

    def _read_line(self, line: str) -> None:
        self.lines.append(line)
        super()._read_line(line)


Serve = Callable[..., Iterator[Seen]]


def serve(directory: Path, **environment: str) -> Iterator[Seen]:
    server = TorchServe(directory, MODEL_NAME, Ports.any_free(), environment=environment)
    recorded = server._log = Recorded()
    with server:
        seen = Seen(server, recorded.lines)
        with seen.http:
            yield seen


@pytest.fixture(scope="module")
def running(light_directory: Path) -> Iterator[Seen]:
    """With default settings."""
    yield from serve(light_directory)


# --- Metrics ----------------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_protocol_and_status(
    running: Seen, photographs: list[Path], eventually: Eventually
) -> None:
    def counted(status: str, protocol: str) -> float:
        labels = {"status": status, "protocol": protocol, "http": "HTTP/1.1"}
        return value(running.samples()["door_requests"], "door_requests_total", **labels)

    before = counted("200", "v1"), counted("400", "v1"), counted("404", "")
    assert running.predict(photographs[0]).status_code == 200
    assert running.http.post(running.route, content=b"{").status_code == 400
    assert running.http.get("/nothing").status_code == 404
    eventually(lambda: (counted("200", "v1"), counted("400", "v1"), counted("404", "")) == tuple(n + 1 for n in before))


def test_calls_of_grpc_are_counted_and_logged_by_the_status_of_rest(
    running: Seen, photographs: list[Path], eventually: Eventually
) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio comes with kserve, which needs Python below 3.14")
    messages = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")

    def counted(*statuses: str) -> list[float]:
        samples = running.samples()
        labels = {"protocol": "grpc", "http": "HTTP/2"}
        totals = [value(samples["door_requests"], "door_requests_total", status=one, **labels) for one in statuses]
        classes = {f"{status[0]}xx" for status in statuses}
        times = [
            value(samples.get("door_request_seconds", []), "door_request_seconds_count", protocol="grpc", status=one)
            for one in sorted(classes)
        ]
        return [*totals, *times]

    image = photographs[0].read_bytes()
    tensor = messages.ModelInferRequest.InferInputTensor(name="images", datatype="BYTES", shape=[1])
    raw = [struct.pack("<I", len(image)) + image]
    with grpc.insecure_channel(running.server.url.removeprefix("http://")) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for name, data, identity in ((MODEL_NAME, raw, "g-200"), (MODEL_NAME, [b"x"], "g-400"), (SECRET, raw, "g-404")):
            asking = messages.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=data)
            metadata = [("x-request-id", identity), (SECRET, SECRET)]
            try:
                ask(asking.SerializeToString(), metadata=metadata, timeout=60)
            except grpc.RpcError as error:
                assert error.code().name == {"g-400": "INVALID_ARGUMENT", "g-404": "NOT_FOUND"}[identity]
    eventually(lambda: counted("200", "400", "404") == [1, 1, 1, 1, 2])
    for status in (400, 404):
        (line,) = eventually(lambda: running.entries(request_id=f"g-{status}"))  # noqa: B023  # called here
        assert (line["status"], line["severity"], line["protocol"]) == (status, "WARNING", "HTTP/2")
    assert not running.entries(request_id="g-200")
    assert SECRET not in "".join(running.lines)


def test_latency_batches_and_stages_are_histograms(
    running: Seen, photographs: list[Path], eventually: Eventually
) -> None:
    def counts() -> tuple[float, ...]:
        found = running.samples()
        stages, batches = found.get("door_stage_seconds", []), found.get("door_batch_size", [])
        requests = found.get("door_request_seconds", [])
        return (
            value(requests, "door_request_seconds_count", protocol="v1", status="2xx"),
            value(batches, "door_batch_size_count"),
            *(value(stages, "door_stage_seconds_count", stage=stage) for stage in STAGES),
        )

    for _ in range(3):
        assert running.predict(photographs[0]).status_code == 200
    asked = 4  # including the server's own at its start
    eventually(lambda: all(count >= asked for count in counts()))
    found = running.samples()
    spent = sum(value(found["door_stage_seconds"], "door_stage_seconds_sum", stage=stage) for stage in STAGES)
    assert 0.001 < spent < 60 * counts()[0], "these are not seconds"
    for name in ("door_request_seconds", "door_stage_seconds", "door_batch_size"):
        assert any(sample.labels.get("le") == "+Inf" for sample in found[name])


def test_the_families_are_in_the_documentation(checkout: Path) -> None:
    page = (checkout / "docs" / "metrics.md").read_text()
    assert {family.name for family in FAMILIES.values()} == set(re.findall(r"^\| `(door_\w+)` ", page, re.MULTILINE))
    variables = {spans.ENDPOINT, spans.SERVICE, spans.SHARE}
    assert variables == set(re.findall(r"^\| `(OTEL_\w+)` ", page, re.MULTILINE))


def test_the_page_has_help_and_no_family_twice(running: Seen, eventually: Eventually) -> None:
    assert running.http.get("/nothing").status_code == 404
    eventually(lambda: running.samples()["door_requests"])
    text = httpx.get(f"{running.server.metrics_url}/metrics", timeout=60, trust_env=False).text
    found = families(text)
    assert "ts_inference_requests" in found
    assert "# HELP door_requests_total " in text
    assert "envoy_door_" not in text
    assert "envoy_http_downstream_cx_active" in found
    assert len(text) < 50_000


def test_a_client_makes_no_series(running: Seen, eventually: Eventually) -> None:
    for number in range(20):
        running.http.request("GET", f"/{SECRET}-{number}", headers={SECRET: SECRET, "host": SECRET})
        running.http.post(running.route, content=SECRET.encode(), headers={"content-type": SECRET})
    v1 = {"status": "400", "protocol": "v1"}
    eventually(lambda: value(running.samples()["door_requests"], "door_requests_total", **v1) >= 20)
    assert SECRET not in httpx.get(f"{running.server.metrics_url}/metrics", timeout=60, trust_env=False).text
    assert len(running.samples()["door_requests"]) < 20


# --- The log ----------------------------------------------------------------------------------------------------------


def test_a_line_for_what_is_refused_and_none_for_what_is_not(
    running: Seen, photographs: list[Path], eventually: Eventually
) -> None:
    assert running.predict(photographs[0], **{"x-request-id": "well"}).status_code == 200
    assert running.http.get("/nothing", headers={"x-request-id": "refused"}).status_code == 404
    (line,) = eventually(lambda: running.entries(request_id="refused"))
    assert not running.entries(request_id="well")
    assert (line["status"], line["severity"], line["client"]) == (404, "WARNING", "127.0.0.1")
    assert set(line) == {
        *("time", "severity", "logger", "message", "status", "client", "protocol", "ms", "bytes", "request_id")
    }


def test_nothing_of_a_clients_is_in_the_log(running: Seen, photographs: list[Path], eventually: Eventually) -> None:
    """Each kind of refusal, with a secret wherever a client may put one."""
    secrets = dict.fromkeys(("cookie", "authorization", "user-agent", "x-api-key", "referer", SECRET), SECRET)
    route, before = running.route, len(running.entries())
    bad = base64.b64encode(SECRET.encode()).decode()
    refused = [
        running.http.get(f"/{SECRET}?{SECRET}={SECRET}", headers=secrets),
        running.http.get(f"{route}?{SECRET}={SECRET}", headers=secrets),
        running.http.post(f"/v2/models/{MODEL_NAME}/infer?{SECRET}", content=SECRET.encode(), headers=secrets),
        running.http.post(route, content=SECRET.encode(), headers=secrets | {"content-type": SECRET}),
        running.http.post(route, json={SECRET: SECRET}, headers=secrets),
        running.http.post(route, json={"instances": [{"b64": bad}, {"b64": SECRET}]}, headers=secrets),
        running.http.post(route, content=SECRET.encode(), headers=secrets | {"content-encoding": SECRET}),
        running.http.post(route, content=SECRET.encode(), headers=secrets | {"host": SECRET}),
        running.http.get("/nothing", headers=secrets | {"x-request-id": f"{SECRET} {SECRET}", "traceparent": SECRET}),
        running.http.get("/nothing", headers=secrets | {"x-request-id": SECRET * 2000}),
    ]
    assert all(400 <= answer.status_code < 500 for answer in refused), refused
    for raw in (f"{SECRET} / HTTP/1.1\r\n\r\n", f"GET /{SECRET} HTTP/1.1\r\nhost: a\r\n{SECRET * 20_000}: b\r\n\r\n"):
        assert re.match(rb"HTTP/1.1 4", raw_answer(running, raw.encode()))
    ids = [answer.headers["x-request-id"] for answer in refused]
    eventually(lambda: all(len(running.entries(request_id=id_)) == 1 for id_ in ids))
    eventually(lambda: len(running.entries()) >= before + len(refused) + 2)
    assert SECRET not in "".join(running.lines)


def test_a_client_that_leaves_is_a_line(running: Seen, eventually: Eventually) -> None:
    with socket.create_connection(("127.0.0.1", port_of(running))) as connection:
        head = f"POST {running.route} HTTP/1.1\r\nhost: a\r\nx-request-id: left\r\ncontent-length: 100\r\n\r\n"
        connection.sendall(head.encode())
    (line,) = eventually(lambda: running.entries(request_id="left"))
    assert line["severity"] == "WARNING"
    assert "downstream_remote_disconnect" in line["message"]


def test_the_client_is_who_connects(running: Seen, eventually: Eventually) -> None:
    """Without gateways, X-Forwarded-For is a client's own text."""
    running.http.get("/nothing", headers={"x-request-id": "hops-0", "x-forwarded-for": "203.0.113.7"})
    (line,) = eventually(lambda: running.entries(request_id="hops-0"))
    assert line["client"] == "127.0.0.1"


# --- A request's id, and its trace ------------------------------------------------------------------------------------


def test_an_id_is_kept(running: Seen, eventually: Eventually) -> None:
    for given in ("5f2b6c1e-7a52-4a8e-9a30-0c7b5ec2c0de", "a", "Root=1-67891233:x/y+z@w_~.", "i" * 64):
        answer = running.http.get("/nothing", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] == given
        eventually(lambda: running.entries(request_id=given))  # noqa: B023  # called here


def test_an_id_that_is_none_is_replaced(running: Seen, eventually: Eventually) -> None:
    odd = ["", "i" * 65, "i" * 10_000, "a b", 'a"b', "a,b", "a\u00e4b", "a\\b", "<b>", "a\tb", "%0a"]
    headers = [{b"x-request-id": given.encode()} for given in odd]
    own = [running.http.get("/nothing", headers=given).headers["x-request-id"] for given in headers]
    assert all(UUID.fullmatch(id_) for id_ in own), own
    assert len(set(own)) == len(odd)
    eventually(lambda: all(running.entries(request_id=id_) for id_ in own))


def test_every_answer_has_an_id(running: Seen, photographs: list[Path]) -> None:
    large = b"x" * (17 * 1024 * 1024)
    answers = {
        200: running.predict(photographs[0]),
        400: running.http.post(running.route, content=b"{"),
        404: running.http.get("/nothing"),
        405: running.http.get(running.route),
        413: running.http.post(running.route, content=large),
        415: running.http.post(running.route, content=b"x", headers={"content-encoding": "lzma"}),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    assert len({answer.headers["x-request-id"] for answer in answers.values()}) == len(answers)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTQ\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_has_no_id(running: Seen, raw: bytes) -> None:
    """These are refused before there is a request: docs/metrics.md says so."""
    answer = raw_answer(running, raw)
    assert re.match(rb"HTTP/1.1 4(00|31) ", answer)
    assert b'{"error"' in answer
    assert b"x-request-id" not in answer


TRACEPARENTS = [
    (TRACEPARENT, True),
    (f"cc-{TRACE}-{CALLER}-00", True),
    (TRACEPARENT[:-1], False),
    (TRACEPARENT + "0", False),
    (TRACEPARENT.upper(), False),
    (TRACEPARENT.replace("-", "_"), False),
    ("00-" + "-" * 32 + TRACEPARENT[35:], False),
    ("ff" + TRACEPARENT[2:], False),
    (f"00-{'0' * 32}-{CALLER}-01", False),
    (f"00-{TRACE}-{'0' * 16}-01", False),
    (SECRET, False),
    (SECRET * 1000, False),
]


def test_a_trace_is_in_the_log_where_it_is_one(running: Seen, eventually: Eventually) -> None:
    for number, (given, _) in enumerate(TRACEPARENTS):
        running.http.get("/nothing", headers={"x-request-id": f"trace-{number}", "traceparent": given})
    for number, (given, kept) in enumerate(TRACEPARENTS):
        (line,) = eventually(lambda: running.entries(request_id=f"trace-{number}"))  # noqa: B023  # called here
        assert line.get("traceparent") == (given if kept else None), given


# --- What the handler gets only from the door ------------------------------------------------------------------------


class Behind(ThreadingHTTPServer):
    """In TorchServe's place: records the headers that it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.heads: list[dict[str, str]] = []


class Answer(BaseHTTPRequestHandler):
    server: Behind
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.heads.append(dict(self.headers))
        self.send_response(200)
        self.send_header("x-stages", "batch=3 queue=1.5 decode=4.0 forward=8.25")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def behind() -> Iterator[Behind]:
    with in_a_thread(Behind()) as listening:
        yield listening


@pytest.fixture
def door(
    behind: Behind, tmp_path_factory: pytest.TempPathFactory, eventually: Eventually
) -> Iterator[tuple[Door, str]]:
    folder = tmp_path_factory.mktemp("d")
    (port,) = free_ports(1)
    made = Door(folder, (MODEL_NAME, ""), Address("127.0.0.1", port), behind.server_port)
    try:
        made.start()

        def opened() -> bool:
            made.keep_up()
            return made.open

        eventually(opened)
        yield made, f"http://127.0.0.1:{port}/v1/models/{MODEL_NAME}:predict"
    finally:
        made.stop()
        made._forwarding.join()
        assert made._process.stdout is not None
        made._process.stdout.close()


def test_the_handler_hears_the_id_and_the_trace(door: tuple[Door, str], behind: Behind) -> None:
    given = {"x-request-id": "mine", "traceparent": TRACEPARENT, "tracestate": "a=b", "x-door-kept": SECRET}
    odd = {"x-request-id": "a b", "traceparent": SECRET, "tracestate": "\u00e4"}
    with httpx.Client(trust_env=False) as http:
        answers = [
            http.post(door[1], content=b"{}", headers={name.encode(): text.encode() for name, text in headers.items()})
            for headers in (given, odd)
        ]
    first, second = behind.heads
    assert (first["x-request-id"], first["traceparent"]) == ("mine", TRACEPARENT)
    assert second["x-request-id"] == answers[1].headers["x-request-id"]
    assert UUID.fullmatch(second["x-request-id"])
    assert "traceparent" not in second
    assert not {"tracestate", "x-door-kept"} & {*first, *second}


def test_figures_are_those_of_the_handler(door: tuple[Door, str], eventually: Eventually) -> None:
    """And in seconds; Envoy's precision is a few per cent."""
    with httpx.Client(trust_env=False) as http:
        answers = [http.post(door[1], content=b"{}") for _ in range(4)]
    assert not any("x-stages" in answer.headers for answer in answers)
    read = of_door(door[0].statistics)
    eventually(lambda: b"door_batch_size" in read())
    found = families(read().decode())
    assert value(found["door_batch_size"], "door_batch_size_bucket", le="2") == 0
    assert value(found["door_batch_size"], "door_batch_size_bucket", le="4") == 4
    for stage, seconds in (("queue", 0.0015), ("decode", 0.004), ("forward", 0.00825)):
        spent = value(found["door_stage_seconds"], "door_stage_seconds_sum", stage=stage)
        assert spent == pytest.approx(4 * seconds, rel=0.05)


# --- Traces -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(light_directory: Path, collector: Collector) -> Iterator[Seen]:
    """A server behind one gateway, with a collector."""
    yield from serve(
        light_directory, TRUSTED_HOPS="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="pictures"
    )


def test_a_request_is_a_span_and_its_stages_are_beneath(
    traced: Seen, collector: Collector, photographs: list[Path], eventually: Eventually
) -> None:
    forwarded = {"x-forwarded-for": "198.51.100.9, 203.0.113.7", "x-request-id": "mine"}
    answer = traced.predict(*photographs[:8], traceparent=TRACEPARENT, **forwarded)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "mine")

    def whole() -> dict[str, Span]:
        found = collector.of_trace(TRACE)
        return found if len(found) >= 4 else {}

    found = eventually(whole)
    request, stages = found["v1"], [found[stage] for stage in STAGES]
    assert set(found) == {"v1", *STAGES}
    assert request.parent == CALLER
    assert {stage.parent for stage in stages} == {request.id}
    assert {span.service for span in found.values()} == {"pictures"}
    assert request.attributes["http.status_code"] == "200"
    assert request.attributes["guid:x-request-id"] == "mine"
    assert found["forward"].attributes == {"batch.size": "1"}
    # One after the other, and within the request.
    assert request.start == stages[0].start
    assert [stage.end for stage in stages[:2]] == [stage.start for stage in stages[1:]]
    assert all(stage.start <= stage.end for stage in stages)
    assert stages[-1].end <= request.end
    assert collector.paths == {"/v1/traces"}

    # The sender decides about its trace; a refused request has a span; spans contain no client text.
    unwanted = TRACE.replace("0", "1")
    assert traced.predict(photographs[0], traceparent=f"00-{unwanted}-{CALLER}-00").status_code == 200
    refused = TRACE.replace("0", "2")
    headers = {"user-agent": SECRET, "x-client-trace-id": SECRET, "x-forwarded-for": "203.0.113.7"}
    given = headers | {"x-request-id": "refused", "traceparent": f"00-{refused}-{CALLER}-01"}
    assert traced.http.post(f"{traced.route}?{SECRET}", content=b"{", headers=given).status_code == 400
    nothing = TRACE.replace("0", "3")
    given = headers | {"host": SECRET, "traceparent": f"00-{nothing}-{CALLER}-01"}
    assert traced.http.get(f"/{SECRET}?{SECRET}", headers=given).status_code == 404
    eventually(lambda: len(collector.of_trace(refused)) == 4 and collector.of_trace(nothing))
    assert collector.of_trace(refused)["v1"].attributes["http.status_code"] == "400"
    assert not collector.of_trace(unwanted)
    assert SECRET not in repr(collector.spans)
    # The log has the trace, with the request's current span; the client is the gateway's client.
    (line,) = eventually(lambda: traced.entries(request_id="refused"))
    assert line["traceparent"] == f"00-{refused}-{collector.of_trace(refused)['v1'].id}-01"
    assert line["client"] == "203.0.113.7"
    assert not traced.entries(request_id="mine")


@pytest.fixture
def deserted(light_directory: Path) -> Iterator[Seen]:
    """A server that logs every request, with its collector missing."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    yield from serve(light_directory, LOG_REQUESTS="1", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)


def test_a_collector_that_is_away_costs_a_line(deserted: Seen, photographs: list[Path], eventually: Eventually) -> None:
    def complaints() -> list[str]:
        return [line for line in list(deserted.lines) if "collector" in line]

    assert deserted.predict(photographs[0]).status_code == 200
    eventually(complaints)
    for number in range(3):  # each in its own batch
        assert deserted.predict(photographs[0], **{"x-request-id": f"good-{number}"}).status_code == 200
        (line,) = eventually(lambda: deserted.entries(request_id=f"good-{number}"))  # noqa: B023  # called here
        assert (line["status"], line["severity"]) == (200, "INFO")
    assert len(complaints()) == 1
    assert "accepts no spans (Connection refused)" in complaints()[0]
    loggers = {json.loads(line)["logger"] for line in deserted.lines}
    assert "envoy" not in loggers, "Envoy says it too"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (spans.ENDPOINT, "collector:4318"),
        (spans.ENDPOINT, "https://collector:4318"),
        (spans.ENDPOINT, "http://user:word@collector"),  # pragma: allowlist secret
        (spans.ENDPOINT, "http://collector:port"),
        (spans.PROTOCOL, "grpc"),
        (spans.SHARE, "1.5"),
        (spans.SHARE, "half"),
    ],
)
def test_a_variable_that_makes_no_sense(variable: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spans.ENDPOINT, "http://collector:4318")
    monkeypatch.setenv(variable, said)
    with pytest.raises(NotServed, match=variable):
        spans.collector()


def test_what_the_variables_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (spans.ENDPOINT, spans.SHARE, spans.SERVICE, spans.PROTOCOL):
        monkeypatch.delenv(name, raising=False)
    assert spans.collector() is None
    monkeypatch.setenv(spans.ENDPOINT, "http://collector:4318/otlp/")
    assert spans.collector() == ("collector", 4318, "/otlp/v1/traces", "torchserve", 1.0)
    monkeypatch.setenv(spans.SHARE, "0.25")
    monkeypatch.setenv(spans.SERVICE, "pictures")
    assert spans.collector() == ("collector", 4318, "/otlp/v1/traces", "pictures", 0.25)


def raw_answer(seen: Seen, request: bytes) -> bytes:
    """The answer on a new connection, until it ends or nothing more arrives."""
    with closing(socket.create_connection(("127.0.0.1", port_of(seen)), timeout=60)) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def port_of(seen: Seen) -> int:
    port = httpx.URL(seen.server.url).port
    assert port is not None
    return port
