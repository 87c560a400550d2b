"""A worker for an unpacked archive, without TorchServe: python worker.py FOLDER PRECISION OUTPUT < PICTURES

With `auto` for PRECISION it only answers; otherwise it is measured.

It imports only what a worker does, so that its memory is a worker's. PICTURES are the paths of photographs, one per
line. Times are processor time, with one thread: other work on the machine changes them little.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from ts.context import Context, RequestProcessor

from entry import Handler

SIZES = range(1, 9)  # images in a batch
MOST_RUNS, MOST_S = 4, 2.0  # for each size


class Worker:
    """precision: `auto`, `float32` or `bfloat16`."""

    def __init__(self, folder: Path, precision: str) -> None:
        config = yaml.safe_load((folder / "model-config.yaml").read_text())
        config["handler"] |= {"precision": precision}
        manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
        name = manifest["model"]["modelName"]
        self._context = Context(
            name, str(folder), manifest, config["batchSize"], None, "0.12.0", model_yaml_config=config
        )
        self._handler = Handler()
        began = time.process_time()
        self._handler.initialize(self._context)
        self.initialize_s = time.process_time() - began
        self.precision = self._handler._classifier.precision

    def answers(self, pictures: list[bytes]) -> list[bytes]:
        """One request for each, in one batch."""
        self._context.request_processor = [RequestProcessor({"content-type": "image/jpeg"}) for _ in pictures]
        bodies = self._handler.handle([{"body": picture} for picture in pictures], self._context)
        statuses = [self._context.get_response_status(index)[0] for index in range(len(pictures))]
        if set(statuses) != {200}:
            raise RuntimeError(f"it answers {statuses}: {bodies[0]!r}")
        return [bytes(body) for body in bodies]


def answered(worker: Worker, pictures: list[bytes]) -> dict[str, Any]:
    """Photographs, alone and together."""
    answers = [*worker.answers(pictures[:1]), *worker.answers(pictures)]
    first = [json.loads(answer)["predictions"][0]["classes"][0] for answer in answers]
    return {"precision": worker.precision, "first_classes": len({each["index"] for each in first})}


def measured(worker: Worker, pictures: list[bytes]) -> dict[str, Any]:
    """Seconds until it was ready; peak memory; times per image; whether answers depend on the rest of the batch."""
    found: dict[str, Any] = {"start_s": round(time.process_time(), 2), "initialize_s": round(worker.initialize_s, 2)}
    pictures = [pictures[index % len(pictures)] for index in range(SIZES[-1])]
    answers = {size: worker.answers(pictures[:size]) for size in SIZES}
    found["same_bits"] = all(answers[size] == answers[SIZES[-1]][:size] for size in SIZES)
    found["memory_mb"] = round(peak_bytes() / 1e6)
    for name, size in (("alone_ms", SIZES[0]), ("together_ms", SIZES[-1])):
        found[name] = round(1000 * quickest(worker, pictures[:size]) / size, 2)
    return found


def quickest(worker: Worker, pictures: list[bytes]) -> float:
    """Processor time in seconds."""
    began, found = time.process_time(), float("inf")
    for _ in range(MOST_RUNS):
        start = time.process_time()
        worker.answers(pictures)
        found = min(found, time.process_time() - start)
        if time.process_time() - began > MOST_S:
            break
    return found


def peak_bytes() -> int:
    """This process's peak resident memory. (getrusage reports the parent's, if that had more.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    folder, precision, output = sys.argv[1:]
    pictures = [Path(line).read_bytes() for line in sys.stdin.read().splitlines()]
    worker = Worker(Path(folder), precision)
    found = answered(worker, pictures) if precision == "auto" else measured(worker, pictures)
    Path(output).write_text(json.dumps(found))
