"""The limit of the machine: the same request bodies and answers, in-process, without HTTP.

    python -m benchmarks.limit SMALL LARGE RAW --contents FOLDER --seconds 1.5
    python -m benchmarks.limit --contents FOLDER --labels IMAGE…

The first prints images/s at each batch size, for one single-threaded process on each core, all at the same time; how
long one image takes with all cores; and the precision. SMALL, LARGE and RAW are folders of request bodies; RAW has
photographs as they are. The second prints the labels that this project gives some images. Both print one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue
from typing import Any

from benchmarks.load import CONTENT_TYPES, JSON_TYPE
from benchmarks.pictures import body
from benchmarks.places import HANDLER

BATCHES = {"small": (1, 2, 4, 8, 16, 32), "large": (1, 2, 4, 8), "raw": (1, 2, 4, 8)}
SINGLES = 60  # images, one after the other, for a median
PATIENCE_S = 120


@dataclass(frozen=True)
class Body:
    """A request's body."""

    content: bytes
    content_type: str


class Work:
    """From request bodies to answer bodies, with this project's own modules.

    contents: as in `Prepared`. precision: overrides the setting. Raises ValueError if it is not available.
    """

    def __init__(self, contents: Path, threads: int, precision: str | None = None) -> None:
        sys.path.insert(0, str(HANDLER))
        import torch
        import yaml

        from vision.model.classifier import Classifier
        from vision.model.facts import read_facts
        from vision.model.ranking import read_classes
        from vision.protocol.v1 import class_bytes
        from vision.worker.settings import read_settings

        torch.set_num_threads(threads)
        settings = read_settings(yaml.safe_load((HANDLER / "model-config.yaml").read_text()))
        if precision:
            settings = replace(settings, precision=precision)
        self._no_urls: Any = None  # no request here has one
        facts = read_facts(contents / "model.yaml")
        self._classes = read_classes(contents / facts.classes)
        self._limits = settings.limits.of_model(len(self._classes), class_bytes(self._classes))
        self._preprocessing = facts.preprocessing
        self._classifier = Classifier(contents, facts, settings, None, max(BATCHES["small"]))
        self.precision = self._classifier.precision

    def answer(self, requests: list[Body]) -> list[bytes]:
        """Bodies of requests with one image each, as one batch → bodies of answers."""
        from vision.model.ranking import top_k
        from vision.protocol.answer import Answer
        from vision.protocol.v1 import response_body

        parsed = [self._parsed(request) for request in requests]
        rows = self.probabilities([self._decoded(request) for request in parsed])
        return [response_body(Answer([top_k(row, request.top_k, self._classes)])) for row, request in zip(rows, parsed)]

    def pixels(self, requests: list[Body]) -> list[Any]:
        """The classifier's input: uint8 (crop, crop, 3) each."""
        return [self._decoded(self._parsed(request)) for request in requests]

    def probabilities(self, pixels: list[Any]) -> Any:
        """float32 (N, classes)."""
        return self._classifier.probabilities(pixels)

    def _parsed(self, request: Body) -> Any:
        from vision.protocol.v1 import parse_body

        return parse_body(request.content, request.content_type, self._limits)

    def _decoded(self, request: Any) -> Any:
        from vision.image.decoder import decode, open_image
        from vision.image.source import locate_image

        (instance,), (place,) = request.instances, request.places
        image = locate_image(instance, place, self._limits.max_image_bytes, self._no_urls).wait()
        assert isinstance(image.content, bytes)
        return decode(open_image(image.content, image.place, self._limits.max_pixels), self._preprocessing)


def throughput(
    folders: dict[str, Path], contents: Path, seconds: float, cores: list[int]
) -> dict[str, dict[int, float]]:
    """Images/s of all cores together, for each kind in BATCHES and batch size. folders: of bodies, for each kind."""
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    barrier, results = spawn.Barrier(len(cores)), spawn.Queue()
    arguments = [(core, folders, contents, seconds, barrier, results) for core in cores]
    workers = [spawn.Process(target=_work_on_core, args=each, daemon=True) for each in arguments]
    for worker in workers:
        worker.start()
    parts = [results.get(timeout=PATIENCE_S) for _ in workers]
    for worker in workers:
        worker.join()
    return {kind: {size: sum(part[kind][size] for part in parts) for size in BATCHES[kind]} for kind in BATCHES}


def _work_on_core(
    core: int, folders: dict[str, Path], contents: Path, seconds: float, barrier: Barrier, results: Queue[Any]
) -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {core})
    work = Work(contents, threads=1)
    found: dict[str, dict[int, float]] = {}
    for kind, folder in folders.items():
        bodies = cycle(bodies_in(folder))
        found[kind] = {}
        for size in BATCHES[kind]:
            work.answer(list(islice(bodies, size)))  # warms up
            barrier.wait(PATIENCE_S)
            found[kind][size] = _images_per_second(work, bodies, size, seconds)
    results.put(found)


def _images_per_second(work: Work, bodies: Any, size: int, seconds: float) -> float:
    began, images = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        images += len(work.answer(list(islice(bodies, size))))
    return images / passed


def one_image_ms(work: Work, folder: Path) -> float:
    """The median time of one image at a time."""
    bodies, times = cycle(bodies_in(folder)), []
    for _ in range(SINGLES):
        began = time.perf_counter()
        work.answer([next(bodies)])
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def labels(images: list[Path], contents: Path) -> list[str]:
    """The label of the most probable class of each image."""
    answers = Work(contents, threads=1).answer([Body(body([image.read_bytes()]), JSON_TYPE) for image in images])
    return [json.loads(answer)["predictions"][0]["classes"][0]["label"] for answer in answers]


def usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def bodies_in(folder: Path) -> list[Body]:
    """In the order of the files' names."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in CONTENT_TYPES]
    return [Body(file.read_bytes(), CONTENT_TYPES[file.suffix]) for file in files]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--labels", action="store_true")
    chosen = parser.parse_args()
    if chosen.labels:
        print(json.dumps(labels(chosen.paths, chosen.contents)))
        return
    folders, cores = dict(zip(BATCHES, chosen.paths, strict=True)), usable_cores()
    found = throughput(folders, chosen.contents, chosen.seconds, cores)
    work = Work(chosen.contents, threads=len(cores))
    single = one_image_ms(work, folders["small"])
    print(json.dumps({"cores": len(cores), "throughput": found, "one_image_ms": single, "precision": work.precision}))


if __name__ == "__main__":
    main()
