"""The container's main process: TorchServe, what the kubelet asks about it, and an end that loses no request.

TorchServe calls itself ready before the model is loaded, and breaks off every connection when it is told to stop. So
this process asks the model a question now and then, answers the probes by what came of it, and keeps a signal to itself
until no client is connected, or for as long as it may. Where TorchServe ends, it ends too, and with it the container.

    python serve.py [/mnt/models]

The folder has `config/config.properties` and `model-store/`. TS_* variables override the former, as for TorchServe.
Where ALEXNET_PUBLIC_KEY names a file, TorchServe is started only with what that key has signed (scripts/package.sh).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import ts
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from ts.model_server import load_properties

MODELS = "/mnt/models"
HEALTH_PORT = int(os.environ.get("HEALTH_PORT", "8079"))
HEALTH_CONNECTIONS = 64
PREDICT = "/v1/models/alexnet:predict"

# A PNG of one black pixel: the smallest question that only a loaded model can answer.
QUESTION = json.dumps(
    {
        "instances": [
            {"b64": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="}
        ]
    }
)
ASK_EVERY_S = 5
ASK_AGAIN_S = 0.1  # where it did not answer: it is being loaded, or its queue is full, and few questions get in

# A question waits behind the requests before it: under load an answer that takes long is no illness. TorchServe itself
# replaces a worker that is silent for responseTimeout (120 s, model-config.yaml), and then answers what it was asked.
ANSWER_TIMEOUT_S = 150
READY_WITHIN_S = float(os.environ.get("READY_WITHIN_S", "60"))
LIVE_WITHIN_S = float(os.environ.get("LIVE_WITHIN_S", "180"))

# A pod that ends is taken out of its Service meanwhile, which takes seconds. The whole stays below the grace period.
DRAIN_AT_LEAST_S = float(os.environ.get("DRAIN_AT_LEAST_S", "15"))
DRAIN_AT_MOST_S = float(os.environ.get("DRAIN_AT_MOST_S", "60"))
STOP_TIMEOUT_S = 20
POLL_S = 0.1

# What is logged, on its way to stdout; and how long the end waits for somebody to read it.
LINES: queue.Queue[str] = queue.Queue(10_000)
FLUSH_TIMEOUT_S = 2

# What a signature is about, and must be about nothing else.
SIGNATURE = "model.sig"
SIGNED = ("config/config.properties", "model-store/alexnet.mar")
HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}

TCP_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"  # https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html


def main() -> int:
    """Returns the exit status: 0 where it was asked to end, otherwise that of TorchServe, and never 0."""
    threading.Thread(target=write_lines, daemon=True).start()
    try:
        return serve()
    finally:
        flush()


def serve() -> int:
    models = Path(sys.argv[1] if len(sys.argv) > 1 else MODELS)
    public_key = os.environ.get("ALEXNET_PUBLIC_KEY")
    if public_key is not None and (fault := signature_fault(models, Path(public_key))):
        log("ERROR", f"{fault}: TorchServe is not started, since ALEXNET_PUBLIC_KEY is set")
        return 1
    try:
        properties = load_properties(str(models / "config" / "config.properties"))
    except OSError as error:
        log("ERROR", f"{error.filename}: {error.strerror}: {models} should hold what scripts/publish.sh published")
        return 1
    address = os.environ.get("TS_INFERENCE_ADDRESS", properties["inference_address"])
    port = int(address.rpartition(":")[2])

    model, stopping = Model(port), threading.Event()
    Health.model, Health.stopping = model, stopping
    try:
        health = HealthServer(("0.0.0.0", HEALTH_PORT), Health)  # noqa: S104  # for the kubelet  # nosec B104
    except OSError as error:
        log("ERROR", f"port {HEALTH_PORT} cannot be listened to ({error.strerror}): set HEALTH_PORT to another")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        server = subprocess.Popen(
            command(models, properties),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        log("ERROR", f"{error.filename}: {error.strerror}: Java cannot be started, set JAVA_HOME")
        return 1
    assert server.stdout is not None
    forwarding = threading.Thread(target=forward, args=(server.stdout,), daemon=True)
    forwarding.start()
    threading.Thread(target=model.ask_now_and_then, daemon=True).start()
    threading.Thread(target=health.serve_forever, daemon=True).start()

    while server.poll() is None and not stopping.wait(POLL_S):
        pass
    if server.poll() is not None:
        forwarding.join(STOP_TIMEOUT_S)  # its last words
        log("ERROR", f"TorchServe ended by itself, with exit status {server.returncode}")
        return server.returncode or 1
    drain(port, server)
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log("WARNING", f"TorchServe did not stop within {STOP_TIMEOUT_S} s and is killed")
        server.kill()
    return 0


def command(models: Path, properties: dict[str, str]) -> list[str]:
    """What TorchServe's launcher would start, without the launcher: it stays between a signal and the server."""
    home = os.environ.get("JAVA_HOME")
    packages = Path(ts.__file__).resolve().parent.parent
    return [
        str(Path(home, "bin", "java")) if home else "java",
        f"-Dmodel_server_home={packages}",
        f"-Djava.io.tmpdir={tempfile.gettempdir()}",
        f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml').resolve().as_uri()}",
        *properties.get("vmargs", "").split(),
        *("-cp", str(packages / "ts" / "frontend" / "*")),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("-f", str(models / "config" / "config.properties")),
        *("-s", str(models / "model-store")),
        "-ncs",  # no snapshots of its configuration: there is nowhere to write them
    ]


# --- The signature ----------------------------------------------------------------------------------------------------


def signature_fault(models: Path, public_key: Path) -> str | None:
    """Why it is not certain that the key has signed what will be served, as a line; None where it is."""
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except OSError as error:
        return f"{public_key} cannot be read ({error.strerror})"
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in HASHES:
        return f"{public_key} is not a public ECDSA key in PEM"
    signature = models / SIGNATURE
    try:
        signed = signed_digests(signature.read_bytes(), key)
        for name in SIGNED:
            with open(models / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != signed.pop(name, None):
                    return f"{models / name} is not what was signed ({signature})"
    except FileNotFoundError as error:
        return f"{error.filename} is missing: publish what scripts/package.sh --sign made"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"{signature} is not a signature by the key {public_key}"
    return f"{signature} is about more files than are served: {', '.join(sorted(signed))}" if signed else None


def signed_digests(bundle: bytes, key: EllipticCurvePublicKey) -> dict[str, str]:
    """A signature of OpenSSF's model-signing → the names of the signed files, and their SHA-256.

    It is a Sigstore bundle with a DSSE envelope around an in-toto statement. The library itself is not in the image: it
    would bring 32 packages more than cryptography, an HTTP client among them. Formats:
    https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    Raises InvalidSignature, or one of Python's own errors where a part is missing or of another kind.
    """
    envelope: Any = json.loads(bundle)["dsseEnvelope"]
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    key.verify(signature, encoded, ECDSA(HASHES[key.curve.name]))
    statement: Any = json.loads(payload)  # from here on, these are the words of who has the key
    said = (kind, statement["_type"], statement["predicateType"], statement["predicate"]["serialization"]["method"])
    if said != (
        "application/vnd.in-toto+json",
        "https://in-toto.io/Statement/v1",
        "https://model_signing/signature/v1.0",
        "files",
    ):
        raise ValueError(f"a signature of another kind: {said}")
    return {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}


# --- The end ----------------------------------------------------------------------------------------------------------


def drain(port: int, server: subprocess.Popen[str]) -> None:
    """Waits until no client is connected: what is on its way is answered, and who has a connection may use it on."""
    began = time.monotonic()
    log("INFO", "asked to end: waiting for clients to leave")
    while server.poll() is None:
        waited, clients = time.monotonic() - began, connections(port)
        if waited >= DRAIN_AT_MOST_S:
            log("WARNING", f"{clients} clients are still connected after {waited:.0f} s: their connections break off")
            return
        if waited >= DRAIN_AT_LEAST_S and clients == 0:
            return
        time.sleep(POLL_S)


def connections(port: int) -> int:
    """How many connections to a port of this machine are established."""
    count = 0
    for table in TCP_TABLES:
        if not table.exists():  # the kernel was started without IPv6
            continue
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            count += state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port
    return count


class Model:
    """Asks it, one question at a time, and remembers when it answered last."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._answered_at: float | None = None  # time.monotonic()

    def ask_now_and_then(self) -> None:
        while True:
            answered = self._ask() == http.client.OK
            if answered:
                self._answered_at = time.monotonic()
            time.sleep(ASK_EVERY_S if answered else ASK_AGAIN_S)

    @property
    def started(self) -> bool:
        return self._answered_at is not None

    def answered_within(self, seconds: float) -> bool:
        return self._answered_at is not None and time.monotonic() - self._answered_at < seconds

    def _ask(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", PREDICT, QUESTION, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class Health(BaseHTTPRequestHandler):
    """GET /startup, /ready and /live, for the kubelet: from what is known, so that nobody loads the model with them."""

    model: Model
    stopping: threading.Event
    timeout = 5  # seconds, for a client that connects and says nothing

    def do_GET(self) -> None:
        if self.path == "/startup":
            self._answer(self.model.started)
        elif self.path == "/ready":
            self._answer(self.model.answered_within(READY_WITHIN_S) and not self.stopping.is_set())
        elif self.path == "/live":
            self._answer(self.model.answered_within(LIVE_WITHIN_S))
        else:
            self.send_error(404)

    def _answer(self, fine: bool) -> None:
        self.send_response(200 if fine else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class HealthServer(ThreadingHTTPServer):
    """Of many connections the oldest makes room for the newest, so that a probe gets in, whoever else holds some."""

    request_queue_size = HEALTH_CONNECTIONS  # that wait to be accepted

    def __init__(self, *arguments: Any) -> None:
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            oldest = self._open.pop(0) if len(self._open) > HEALTH_CONNECTIONS else None
        if oldest:
            with suppress(OSError):  # it has ended by itself
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """A client that breaks off is no line in the log."""


# --- The log ----------------------------------------------------------------------------------------------------------


def forward(output: IO[str]) -> None:
    """What TorchServe logs is JSON; what the JVM prints becomes it."""
    for line in output:
        if line.startswith("{"):
            write(line)
        elif line.strip():
            log("INFO", line.rstrip("\n"))


def log(severity: str, message: str) -> None:
    """One JSON object a line, with the names that Cloud Logging reads."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write(json.dumps({"time": moment, "severity": severity, "logger": "serve", "message": message}) + "\n")


def write(line: str) -> None:
    """A log that is full, or that nobody reads, loses lines; it stops neither the server nor its end."""
    with suppress(queue.Full):
        LINES.put_nowait(line)


def write_lines() -> None:
    while True:
        with suppress(OSError):
            os.write(1, LINES.get().encode())
        LINES.task_done()


def flush() -> None:
    deadline = time.monotonic() + FLUSH_TIMEOUT_S
    while LINES.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(POLL_S / 10)


if __name__ == "__main__":
    sys.exit(main())
