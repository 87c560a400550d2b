"""Where a request's processor time goes when the server is busy: small photographs, 32 clients.

py-spy samples the workers' Python; on Linux this needs root, or kernel.yama.ptrace_scope=0. The kernel accounts for the
front end's threads.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks import pictures
from benchmarks.contenders import THIS, url
from benchmarks.groups import answer_of
from benchmarks.limit import usable_cores
from benchmarks.measurement import ANSWER_TIMEOUT_S, IMPORTABLE, machine, module
from benchmarks.places import CHECKOUT
from benchmarks.weights import Prepared
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import Ports

CONCURRENCY = 32
WARM_UP_S, SECONDS = 20, 10  # the JVM compiles in the first half minute
SAMPLES_PER_S = 200
FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+):\d+\)")

LAYERS = "layers"  # layers.py splits them up
BATCH = 11  # the usual size, with this many clients and two workers

# The stage of a sampled stack: the first match from the innermost function outwards.
STAGES = {
    ("__call__", "network.py"): LAYERS,
    ("_forward", "classifier.py"): "stacking, normalising, softmax",
    ("probabilities", "classifier.py"): "stacking, normalising, softmax",
    ("resize", "Image.py"): "resizing",
    ("load", "ImageFile.py"): "decoding",
    ("open_image", "decoder.py"): "reading headers",
    ("decode", "decoder.py"): "decoding",
    ("locate_image", "source.py"): "base64",
    ("parse", "protocols.py"): "JSON",
    ("top_k", "ranking.py"): "top-k, answer",
    ("_encode", "entry.py"): "top-k, answer",
    ("retrieve_msg", "otf_message_handler.py"): "TorchServe's worker: receiving",
    ("create_predict_response", "otf_message_handler.py"): "TorchServe's worker: answering",
    ("add_time", "metrics_store.py"): "TorchServe's worker: metrics, logging",
    ("emit_metrics", "service.py"): "TorchServe's worker: metrics, logging",
    ("handle", "__init__.py"): "TorchServe's worker: metrics, logging",
    ("handle", "entry.py"): "the handler's remainder",
}
OTHER = "TorchServe's worker: the rest"
WORKERS, FRONT_END, COMPILER = "workers", "TorchServe's front end (Java)", "TorchServe's front end: the JVM's compiler"
COMPILING = re.compile(r"C[12] Compiler")


def profile(prepared: Prepared) -> dict[str, Any]:
    """Processor time per request, in ms, by what it was spent on."""
    ports = Ports.any_free()
    words = [*module("load"), url(ports), pictures.bodies(pictures.SMALL), "--connections", CONCURRENCY]
    words += ["--warm-up", WARM_UP_S, "--seconds", SECONDS]
    load_command = [str(word) for word in words]
    with (
        THIS.serve(ports, prepared, None, 0) as running,
        subprocess.Popen(load_command, cwd=CHECKOUT, env=os.environ | IMPORTABLE, stdout=subprocess.PIPE) as load,
    ):
        time.sleep(WARM_UP_S + 1)
        front_end = next(process for process in running.processes() if process.name() == "java")
        workers = front_end.children()
        before, began = _spent(front_end, workers), time.perf_counter()
        stacks = _sample(workers)
        seconds, spent = time.perf_counter() - began, _spent(front_end, workers)
        spent.subtract(before)
        found = json.loads(load.communicate()[0])
    requests = found["throughput"] * seconds
    samples = Counter[str]()
    for stack, count in stacks.items():
        samples[stage_of(stack)] += count
    of_workers = spent.pop(WORKERS)
    spent.update({stage: of_workers * count / samples.total() for stage, count in samples.items()})
    of_layers = spent.pop(LAYERS, 0)
    command = [*module("layers"), "--contents", prepared.contents, "--batch", BATCH]
    for kind, share in answer_of(command, CHECKOUT, IMPORTABLE | {"OMP_NUM_THREADS": "1"}, ANSWER_TIMEOUT_S).items():
        spent[kind] += of_layers * share
    per_request = {what: 1000 * seconds / requests for what, seconds in spent.items()}
    per_request["(the load generator)"] = found["own_cpu_ms_per_request"]
    return {
        "machine": machine(usable_cores()),
        "throughput": found["throughput"],
        "ms_per_request": dict(sorted(per_request.items(), key=lambda entry: -entry[1])),
    }


def _spent(front_end: psutil.Process, workers: list[psutil.Process]) -> Counter[str]:
    """Seconds of processor time so far, for the workers and for each kind of the front end's threads."""
    spent: Counter[str] = Counter()
    for worker in workers:
        times = worker.cpu_times()
        spent[WORKERS] += times.user + times.system  # type: ignore[assignment]
    for thread in front_end.threads():
        try:
            name = Path(f"/proc/{front_end.pid}/task/{thread.id}/comm").read_text().strip()
        except OSError:  # it has ended
            continue
        kind = COMPILER if COMPILING.match(name) else FRONT_END
        spent[kind] += thread.user_time + thread.system_time  # type: ignore[assignment]
    return spent


def _sample(workers: list[psutil.Process]) -> Counter[str]:
    """Stacks of the workers' running threads, and how often each was seen."""
    py_spy = Path(sys.executable).with_name("py-spy")
    stacks: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        samplers = []
        for worker in workers:
            command = [
                py_spy,
                "record",
                "--pid",
                worker.pid,
                "--format",
                "raw",
                "--output",
                Path(scratch, str(worker.pid)),
            ]
            command += ["--duration", SECONDS - 3, "--rate", SAMPLES_PER_S, "--nonblocking"]
            samplers.append(
                subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        for sampler in samplers:
            said = sampler.communicate()[1].decode()
            if sampler.returncode:
                raise PipelineError(f"py-spy cannot sample the workers: {said.strip().splitlines()[-1]}")
        for file in Path(scratch).iterdir():
            for line in file.read_text().splitlines():
                stack, _, count = line.rpartition(" ")
                stacks[stack] += int(count)
    return stacks


def stage_of(stack: str) -> str:
    """`function (file:line);function (file:line)…`, the innermost last → its stage."""
    for frame in reversed(stack.split(";")):
        if found := FRAME.fullmatch(frame.strip()):
            stage = STAGES.get((found["function"].rpartition(".")[2], Path(found["file"]).name))
            if stage:
                return stage
    return OTHER
