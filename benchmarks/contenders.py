"""The servers that are measured: this project, its peers, and two peers with this project's decoder and classifier."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.environments import environment
from benchmarks.groups import Group
from benchmarks.places import HANDLER, PEERS
from benchmarks.weights import Int8, Prepared
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.java import java_home
from pipeline.serving.route import predict_route
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import LOOPBACK, Ports

OURS, INT8 = "ours", "ours_int8"
ROUTE = predict_route(MODEL_NAME)


@dataclass(frozen=True)
class Running:
    """A server that has been started, but may not answer yet."""

    processes: Callable[[], list[psutil.Process]]
    check_alive: Callable[[], None]


@dataclass(frozen=True)
class Contender:
    """name: also its folder's, unless `environment` names the folder. title: in charts. form: how it takes images, see
    pictures.FORMS. note: for the tables.
    """

    name: str
    title: str
    note: str
    form: str = "image"
    equal_work: bool = False
    environment: str = ""

    @property
    def is_peer(self) -> bool:
        return self.name not in (OURS, INT8)

    @contextmanager
    def serve(self, ports: Ports, prepared: Prepared, python: Path | None, cores: int) -> Iterator[Running]:
        """Starts the server; leaving stops all of its processes and removes its files."""
        if not self.is_peer:
            with TorchServe(self._variant(prepared).served, MODEL_NAME, ports) as server:
                yield Running(server.processes, lambda: None)
            return
        assert python is not None
        scratch = Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            command, variables = COMMANDS[self.name](python, ports, prepared, cores, scratch)
            common = {"ALEXNET_PTH": str(prepared.pth), "TMPDIR": str(scratch), "HOME": str(scratch)}
            with Group(command, scratch, {**_without_ours(), **common, **variables}) as group:
                yield Running(group.processes, group.check_alive)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def python(self, say: Callable[[str], None]) -> Path | None:
        return environment(self.environment or self.name, say) if self.is_peer else None

    def contents(self, prepared: Prepared) -> Path:
        """The archive's contents, from which the right answers are computed."""
        return self._variant(prepared).contents

    def _variant(self, prepared: Prepared) -> Prepared | Int8:
        if self.name != INT8:
            return prepared
        assert prepared.int8 is not None, "prepare(int8=True) makes it"
        return prepared.int8


def url(ports: Ports) -> str:
    return f"http://{LOOPBACK}:{ports.inference}{ROUTE}"


def top_1(answer: Any) -> str:
    """The label of the most probable class, in whichever form a contender answers."""
    predictions = answer["predictions"] if isinstance(answer, dict) else answer
    first = predictions[0]
    if "classes" in first:
        return str(first["classes"][0]["label"])
    return str(max(first, key=first.get))


# --- How each is started ----------------------------------------------------------------------------------------------

Start = tuple[list[object], Mapping[str, str]]

# For each of several workers: with torch's default, one thread per core in every worker, they wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _torchserve_stock(python: Path, ports: Ports, prepared: Prepared, cores: int, scratch: Path) -> Start:
    config = scratch / "config.properties"
    template = (PEERS / "torchserve_stock" / "config.properties").read_text()
    config.write_text(template.format(**vars(ports), model_store=prepared.stock, workers=cores))
    command = [python.parent / "torchserve", "--start", "--foreground", "--disable-token-auth", "--ncs"]
    command += ["--ts-config", config, "--model-store", prepared.stock]
    variables = {
        "JAVA_HOME": str(java_home()),
        "PATH": f"{python.parent}:{os.environ['PATH']}",  # where TorchServe looks for the workers' Python
        "TEMP": str(scratch),
        "TS_SERVICE_ENVELOPE": "kserve",
    }
    return command, variables


def _torchserve_stock_1(python: Path, ports: Ports, prepared: Prepared, cores: int, scratch: Path) -> Start:
    command, variables = _torchserve_stock(python, ports, prepared, cores, scratch)
    return command, {**variables, **ONE_THREAD}


def _kserve_predictor(python: Path, ports: Ports, *_: Any) -> Start:
    return [python, "-P", PEERS / "kserve_predictor" / "server.py", *_kserve_options(ports)], {}


def _kserve_equal(python: Path, ports: Ports, prepared: Prepared, cores: int, _: Path) -> Start:
    server = PEERS / "kserve_equal" / "server.py"
    return [python, "-P", server, *_kserve_options(ports), "--workers", cores], _equal_work(prepared)


def _kserve_options(ports: Ports) -> list[object]:
    return ["--http_port", ports.inference, "--grpc_port", ports.grpc_inference, "--model_name", "alexnet"]


def _litserve(python: Path, ports: Ports, _: Prepared, cores: int, *__: Any) -> Start:
    server = PEERS / "litserve" / "server.py"
    return [python, "-P", server, "--port", ports.inference, "--batch", 16, "--workers", cores], ONE_THREAD


def _litserve_equal(python: Path, ports: Ports, prepared: Prepared, cores: int, _: Path) -> Start:
    command = [python, "-P", PEERS / "litserve_equal" / "server.py", "--port", ports.inference]
    command += ["--batch", 16, "--batch-timeout", 0.001, "--workers", cores]
    return command, _equal_work(prepared)


def _bentoml(python: Path, ports: Ports, _: Prepared, __: int, scratch: Path) -> Start:
    command = [python, "-P", "-m", "bentoml", "serve", "service:ImageClassifier", "--working-dir", PEERS / "bentoml"]
    command += ["--host", LOOPBACK, "--port", ports.inference]
    variables = {"BENTOML_HOME": str(scratch), "BENTOML_DO_NOT_TRACK": "True"}
    return command, variables


def _flask(python: Path, ports: Ports, _: Prepared, cores: int, __: Path) -> Start:
    command = [python.parent / "gunicorn", "--workers", cores, "--bind", f"{LOOPBACK}:{ports.inference}"]
    return [*command, "--chdir", PEERS / "flask", "app:app"], ONE_THREAD


def _equal_work(prepared: Prepared) -> dict[str, str]:
    return ONE_THREAD | {
        "PYTHONPATH": f"{HANDLER}:{PEERS}",
        "MODEL_CONTENTS": str(prepared.contents),
        "MODEL_CONFIG": str(HANDLER / "model-config.yaml"),
    }


def _without_ours() -> dict[str, str]:
    """Hides this project's modules from the peers, except those that they are given."""
    return {"PYTHONPATH": "", "PYTHONSAFEPATH": ""}


COMMANDS: dict[str, Callable[[Path, Ports, Prepared, int, Path], Start]] = {
    "torchserve_stock": _torchserve_stock,
    "torchserve_stock_1": _torchserve_stock_1,
    "kserve_predictor": _kserve_predictor,
    "litserve": _litserve,
    "bentoml": _bentoml,
    "flask": _flask,
    "litserve_equal": _litserve_equal,
    "kserve_equal": _kserve_equal,
}

THIS = Contender(OURS, "this project", "default configuration")
WITH_INT8 = Contender(INT8, "this project, int8", "an archive that scripts/package.sh --int8 has made")
# In this order; this project runs after every second one.
CONTENDERS = (
    Contender(
        "torchserve_stock",
        "TorchServe, stock",
        'image_classifier with the KServe envelope, a worker for each core; takes {"data": …}',
        form="data",
    ),
    Contender(
        "torchserve_stock_1",
        "TorchServe, stock, one thread",
        "the same with OMP_NUM_THREADS=1, which is not the default",
        form="data",
        environment="torchserve_stock",
    ),
    Contender("kserve_predictor", "KServe SDK", "custom predictor for AlexNet, one process"),
    Contender("litserve", "LitServe", "batches of up to 16 within 10 ms, a worker with one thread for each core"),
    WITH_INT8,  # between LitServe and this project
    Contender("bentoml", "BentoML", "adaptive batches of up to 32, one worker; answers a bare list"),
    Contender(
        "flask", "Flask", "gunicorn, a worker with one thread for each core; closes each connection after an answer"
    ),
    Contender(
        "litserve_equal",
        "LitServe, equal work",
        "batches of up to 16 within 1 ms, a worker with one thread for each core",
        equal_work=True,
        environment="litserve",
    ),
    Contender(
        "kserve_equal",
        "KServe SDK, equal work",
        "a process with one thread for each core, no batches",
        equal_work=True,
        environment="kserve_predictor",
    ),
)
