"""The two servers under test: this project's container command, and stock TorchServe.

Both get the same time to start, and are found by a mark in their environment, so that nothing of them is left.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.contenders import COMMANDS
from benchmarks.environments import environment
from benchmarks.groups import Group
from benchmarks.places import WEIGHTS
from benchmarks.weights import Prepared, prepare
from pipeline.artefact.model import MODEL
from pipeline.artefact.weights import Weights, untrained_state
from pipeline.serving.java import java_home
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports, free_ports
from reliability.clients import ROUTE, questions

CHECKOUT = Path(__file__).resolve().parents[1]
Kind = Literal["ours", "stock"]
OURS: Kind = "ours"
STOCK: Kind = "stock"
TITLES = {OURS: "This project", STOCK: "Stock TorchServe"}
FORMS = {OURS: "b64", STOCK: "data"}  # the key of an instance's image
STARTUP_TIMEOUT_S = 180
POLL_S = 0.02
WORKER = "model_service_worker.py"


@dataclass
class Server:
    """A running server. start_s: from its start to its first answer. scratch: its temporary folder."""

    kind: Kind
    ports: Ports
    group: Group
    scratch: Path
    start_s: float = 0

    @property
    def form(self) -> str:
        return FORMS[self.kind]

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.ports.inference

    def processes(self) -> list[psutil.Process]:
        return self.group.processes()

    def workers(self) -> list[psutil.Process]:
        return [process for process in self.processes() if WORKER in _words(process)]

    def java(self) -> psutil.Process:
        return next(process for process in self.processes() if "org.pytorch.serve.ModelServer" in _words(process))

    def envoy(self) -> psutil.Process:
        return next(process for process in self.processes() if _is_envoy(process))

    def has_envoy(self) -> bool:
        return any(_is_envoy(process) for process in self.processes())

    def leader(self) -> psutil.Process:
        """The process that a container runtime would watch and signal."""
        return psutil.Process(self.group.leader.pid)

    def ended(self) -> int | None:
        return self.group.leader.poll()

    def log(self) -> str:
        return (self.scratch / "output.log").read_text(errors="replace")


class Servers:
    """Starts either server with `archive`.

    models: for this project's server, a directory in KServe's layout, created if missing.
    """

    def __init__(self, kind: Kind, models: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.kind = kind
        if kind == STOCK:
            self._python = environment("torchserve_stock", say)
            self.archive = next(WEIGHTS.glob("*/stock/alexnet.mar"), None) or prepare(say).stock / "alexnet.mar"
            return
        self.archive = models / "model-store" / "alexnet.mar"
        if not (models / "config").is_dir():
            from pipeline.artefact.packing import pack  # torch takes seconds

            pack(CHECKOUT / "handler", Weights("untrained", untrained_state()), MODEL, self.archive, say)
            (models / "config").mkdir()
            shutil.copy(CHECKOUT / "config.properties", models / "config")

    def with_archive(self, archive: Path) -> Servers:
        """The same with another archive, which is where TorchServe and our command look for it: see `_command`."""
        other = copy.copy(self)
        other.archive = archive
        return other

    @contextmanager
    def started(
        self,
        ports: Ports | None = None,
        before: Sequence[object] = (),
        variables: Mapping[str, str] | None = None,
        within_s: float = STARTUP_TIMEOUT_S,
    ) -> Iterator[Server]:
        """A server that answers; leaving stops it. Raises PipelineError if it does not answer in time.

        before: words to put before its command, such as unshare's. variables: for its environment.
        """
        ports = ports or Ports.any_free()
        scratch = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))  # short: the workers' sockets are in it
        try:
            command, own = self._command(ports, scratch)
            with Group([*before, *command], scratch, {**own, **(variables or {})}) as group:
                server = Server(self.kind, ports, group, scratch)
                server.start_s = _wait_until_ready(server, within_s)
                yield server
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _command(self, ports: Ports, scratch: Path) -> tuple[list[object], Mapping[str, str]]:
        common = {"TMPDIR": str(scratch), "HOME": str(scratch), "PYTHONPATH": "", "PYTHONSAFEPATH": ""}
        if self.kind == STOCK:
            store = self.archive.parent
            made = Prepared("", served=store, stock=store, pth=store, contents=store)  # it uses only stock
            command, own = COMMANDS["torchserve_stock"](self._python, ports, made, os.cpu_count() or 1, scratch)
            return command, {**common, **own}
        models = self.archive.parent.parent
        return [sys.executable, "-P", "-m", "server", models], {
            **common,
            "PYTHONPATH": str(CHECKOUT / "kserve" / "runtime"),
            "JAVA_HOME": str(java_home()),
            "OMP_WAIT_POLICY": "PASSIVE",
            "TS_INFERENCE_ADDRESS": f"http://{LOOPBACK}:{ports.inference}",
            "TS_MANAGEMENT_ADDRESS": f"http://{LOOPBACK}:{ports.management}",
            "TS_METRICS_ADDRESS": f"http://{LOOPBACK}:{ports.metrics}",
            "TS_GRPC_INFERENCE_PORT": str(ports.grpc_inference),
            "TS_GRPC_MANAGEMENT_PORT": str(ports.grpc_management),
            "HEALTH_PORT": str(free_ports(1)[0]),
            "DRAIN_AT_LEAST_S": "1",
            "DRAIN_AT_MOST_S": "30",
        }


def _wait_until_ready(server: Server, within_s: float) -> float:
    """Returns the seconds until the first answer with status 200."""
    began = time.monotonic()
    url = f"http://{LOOPBACK}:{server.ports.inference}{ROUTE}"
    body = questions(server.form)[0]
    while time.monotonic() - began < within_s:
        server.group.check_alive()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, timeout=within_s):
            return time.monotonic() - began
        time.sleep(POLL_S)
    raise PipelineError(f"no answer within {within_s:.0f} s; its last output:\n{server.group.tail()}")


def _is_envoy(process: psutil.Process) -> bool:
    return _words(process).split(" ")[0].endswith("/envoy")


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
