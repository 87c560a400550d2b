"""The runs: each contender is started, measured and stopped, in turn with this project, round after round."""

from __future__ import annotations

import http.client
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import pictures, processors, startup
from benchmarks.contenders import ROUTE, THIS, Contender, top_1, url
from benchmarks.groups import answer_of, memory
from benchmarks.limit import usable_cores
from benchmarks.places import CHECKOUT, PHOTOGRAPHS
from benchmarks.weights import Prepared
from pipeline.serving.torchserve import has_envoy
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports

CONCURRENCIES = (1, 8, 32, 128)
WARM_UP_S = 0.5
LARGE_CONCURRENCY = 8
MANY = 64  # images in one request, against as many requests
MANY_CONCURRENCIES = (1, 4)  # one client with 64 images; and enough clients to keep every worker busy
LIMIT_S = 1.2  # for each batch size
STARTUP_TIMEOUT_S = 120
POLL_S = 0.01
ANSWER_TIMEOUT_S = 120

Say = Callable[[str], None]


class Measurement:
    """Everything that a run needs.

    seconds: of each load. say: called with what is being done. done: called after each step of `steps`.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        prepared: Prepared,
        seconds: float,
        say: Say,
        done: Callable[[], None],
    ) -> None:
        self._contenders, self._prepared, self._say, self._done = contenders, prepared, say, done
        self._seconds = seconds
        self._pythons = {contender.name: contender.python(say) for contender in contenders}
        self._cores = usable_cores()
        say("making photographs")
        self._bodies = {form: pictures.bodies(pictures.SMALL, form) for form in pictures.FORMS}
        self._large = {"large": pictures.bodies(pictures.LARGE), "raw": pictures.files(pictures.LARGE)[0].parent}
        self._many = pictures.bodies(pictures.SMALL, instances=MANY)
        self._ours = [THIS, *(each for each in contenders if not each.is_peer)]
        self._labels = {each.name: self._labels_of(each) for each in self._ours}

    def rounds(self, count: int) -> dict[str, Any]:
        """All measurements, with the machine that they were made on."""
        began = time.monotonic()
        found = [self._round() for _ in range(count)]
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "seconds": time.monotonic() - began,
            "machine": machine(self._cores),
            "front_door": has_envoy(),
            "weights": self._prepared.origin,
            "images": {kind.name: pictures.sizes(kind) for kind in (pictures.SMALL, pictures.LARGE)},
            "load_s": self._seconds,
            "warm_up_s": WARM_UP_S,
            "rounds": found,
        }

    def steps(self, count: int) -> int:
        """The number of steps in that many rounds."""
        return count * (sum(1 for _ in in_turn(self._contenders)) + 2 * len(self._ours) + 1)

    def _round(self) -> dict[str, Any]:
        """`runs` is in the order of measurement: neighbours can be compared."""
        runs = []
        for contender in in_turn(self._contenders):
            runs.append(self._run(contender))
            self._done()
        limits = {}
        for contender in self._ours:
            runs.append(self._run(contender, beside_limit=True))
            self._done()
            self._say(f"{contender.title}: the limit")
            limits[contender.name] = self._limit(contender)
            self._done()
        self._say("JVM and import torch")
        floor = startup.floor()
        self._done()
        return {"runs": runs, "limit": limits, "floor": floor}

    def _run(self, contender: Contender, beside_limit: bool = False) -> dict[str, Any]:
        self._say(f"{contender.title}: starting")
        ports = Ports.any_free()
        address = url(ports)
        bodies = self._bodies[contender.form]
        python = self._pythons.get(contender.name)
        images = [photograph.read_bytes() for photograph in PHOTOGRAPHS]
        questions = [pictures.body([image], contender.form) for image in images]
        probe = Probe(ports.inference, questions[0])
        with probe, contender.serve(ports, self._prepared, python, len(self._cores)) as running:
            started = probe.wait(running.check_alive)
            self._check_answers(contender, ports.inference, questions)
            loads = []
            for concurrency in CONCURRENCIES:
                self._say(f"{contender.title}: {concurrency} at a time")
                loads.append(self._load(address, bodies, concurrency))
            found = {
                "name": contender.name,
                "startup_s": started,
                "loads": loads,
                "memory": memory(running.processes()),
            }
            if beside_limit:
                self._say(f"{contender.title}: 12 megapixels, and {MANY} images in one request")
                found |= {kind: self._load(address, folder, LARGE_CONCURRENCY) for kind, folder in self._large.items()}
                found["many"] = [self._load(address, self._many, clients) for clients in MANY_CONCURRENCIES]
                found["singles"] = self._load(address, bodies, MANY)
            return found

    def _check_answers(self, contender: Contender, port: int, questions: list[bytes]) -> None:
        """A contender that gives other labels than this project does other work."""
        found = [top_1(json.loads(ask(port, question)[1])) for question in questions]
        right = self._labels.get(contender.name, self._labels[THIS.name])
        if found != right:
            raise PipelineError(f"{contender.name} answers {found} instead of {right}")

    def _labels_of(self, contender: Contender) -> list[str]:
        command = [*module("limit"), *PHOTOGRAPHS, "--labels", "--contents", contender.contents(self._prepared)]
        found: list[str] = answer_of(command, CHECKOUT, IMPORTABLE, ANSWER_TIMEOUT_S)
        return found

    def _load(self, address: str, bodies: Path, connections: int) -> dict[str, Any]:
        return put_load(address, bodies, connections, self._seconds, WARM_UP_S)

    def _limit(self, contender: Contender) -> Any:
        command = [*module("limit"), self._bodies["image"], *self._large.values()]
        command += ["--contents", contender.contents(self._prepared), "--seconds", LIMIT_S]
        return answer_of(command, CHECKOUT, IMPORTABLE, ANSWER_TIMEOUT_S)


def in_turn(contenders: Sequence[Contender]) -> Iterator[Contender]:
    """Every peer directly before or after this project (B), which also runs once more at the end: A B C, D B E, …"""
    for place, contender in enumerate(contenders):
        if place % 2:
            yield THIS
        yield contender


def put_load(
    address: str, bodies: Path, connections: int, seconds: float, warm_up: float, pause: float | None = None
) -> dict[str, Any]:
    """The load generator's output, see load.summary. pause: after a refusal, in seconds; None: its default."""
    command = [*module("load"), address, bodies, "--connections", connections]
    command += ["--seconds", seconds, "--warm-up", warm_up]
    if pause is not None:
        command += ["--pause", pause]
    answer: dict[str, Any] = answer_of(command, CHECKOUT, IMPORTABLE, ANSWER_TIMEOUT_S + seconds + warm_up)
    return answer


class Probe:
    """A context manager that sends a request to a port every 10 ms, from the start until a status 200."""

    def __init__(self, port: int, question: bytes) -> None:
        self._port, self._question = port, question
        self._answered, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Probe:
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(POLL_S * 10)

    def wait(self, check_alive: Callable[[], None]) -> float:
        """The seconds from the start until the first answer."""
        while not self._answered.wait(POLL_S):
            check_alive()
            if time.perf_counter() - self._began > STARTUP_TIMEOUT_S:
                raise PipelineError(f"no answer within {STARTUP_TIMEOUT_S} s after the start")
        return self._seconds

    def _ask(self) -> None:
        while not self._stopped.is_set():
            with suppress(OSError, http.client.HTTPException):
                if ask(self._port, self._question)[0] == 200:
                    self._seconds = time.perf_counter() - self._began
                    self._answered.set()
                    return
            time.sleep(POLL_S)


def ask(port: int, question: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", ROUTE, question, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def machine(cores: list[int]) -> dict[str, Any]:
    return {
        "processor": processors.name(),
        "instruction_sets": processors.instruction_sets(),
        "cores": len(cores),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "torchserve": version("torchserve"),
        "pillow": version("pillow"),
    }


IMPORTABLE = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}


def module(name: str) -> list[object]:
    return [sys.executable, "-P", "-m", f"benchmarks.{name}"]
