"""Where the classifier's time goes, by torch's own profiler: operators have no Python frames to sample.

    python -m benchmarks.layers --contents FOLDER --batch 11

Prints one line of JSON: the share of each kind of work.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from benchmarks import pictures
from benchmarks.limit import Work, bodies_in

RUNS = 20
# The first entry whose word is in an operator's name applies.
KINDS = {
    "conv": "convolutions",
    "linear": "Linear layers",
    "addmm": "Linear layers",
    "pool": "pooling, ReLU",
    "maximum": "pooling, ReLU",
    "relu": "pooling, ReLU",
    "clamp_min": "pooling, ReLU",
}
OTHER = "stacking, normalising, softmax"


def shares(contents: Path, batch: int) -> dict[str, float]:
    """Shares of the time to compute probabilities for this many images at a time, with one thread."""
    from torch.profiler import ProfilerActivity, profile

    work = Work(contents, threads=1)
    pixels = work.pixels(list(islice(cycle(bodies_in(pictures.bodies(pictures.SMALL))), batch)))
    work.probabilities(pixels)  # warms up
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(RUNS):
            work.probabilities(pixels)
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[kind_of(event.key)] += int(event.self_cpu_time_total)
    return {kind: time / spent.total() for kind, time in spent.items()}


def kind_of(operator: str) -> str:
    """The kind of an operator, by its name, such as aten::mkldnn_convolution."""
    return next((kind for word, kind in KINDS.items() if word in operator), OTHER)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    chosen = parser.parse_args()
    print(json.dumps(shares(chosen.contents, chosen.batch)))


if __name__ == "__main__":
    main()
