"""Measures one network with one choice of instructions and precision, in a separate process with one thread.

    python -m benchmarks.isa --contents FOLDER --precision int8 --batches 1,16,32 --seconds 0.5

Prints one line of JSON: the processor time per image, for the forward pass (from pixels to probabilities) and for the
whole (from a request's body to an answer's), for each batch size; or `refused`, the reason why the precision is not
available. ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY limit the instructions; torch reads them when it is imported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from benchmarks import pictures
from benchmarks.limit import Work, bodies_in

LEAST_RUNS = 3


def cpu_ms(run: Callable[[], object], images: int, seconds: float) -> float:
    """The median processor time per image, in ms, which excludes the machine's other work."""
    run()  # warms up
    times: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(times) < LEAST_RUNS:
        began = time.process_time()
        run()
        times.append(1000 * (time.process_time() - began) / images)
    return sorted(times)[len(times) // 2]


def measure(contents: Path, precision: str, batches: list[int], seconds: float) -> dict[str, object]:
    """Batch size → ms for `forward` and for `request`."""
    try:
        work = Work(contents, threads=1, precision=precision)
    except ValueError as error:
        return {"refused": str(error)}
    bodies = cycle(bodies_in(pictures.bodies(pictures.SMALL)))
    found = {}
    for size in batches:
        requests = list(islice(bodies, size))
        pixels = work.pixels(requests)
        found[str(size)] = {
            "forward": cpu_ms(lambda pixels=pixels: work.probabilities(pixels), size, seconds),  # type: ignore[misc]
            "request": cpu_ms(lambda requests=requests: work.answer(requests), size, seconds),  # type: ignore[misc]
        }
    return {"precision": work.precision, "ms": found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--batches", required=True)
    parser.add_argument("--seconds", type=float, default=0.5)
    chosen = parser.parse_args()
    batches = [int(size) for size in chosen.batches.split(",")]
    print(json.dumps(measure(chosen.contents, chosen.precision, batches, chosen.seconds)))


if __name__ == "__main__":
    main()
