"""Whether an answer depends on the other images in its batch.

    PYTHONPATH=.:handler python -P tests/support/company.py MODEL_DIR PIXELS

prints what differs in float32: in a process of its own other instructions can be asked for.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from vision.model.classifier import Classifier
from vision.model.facts import read_facts
from vision.worker.processors import available
from vision.worker.settings import read_settings

SIZES = (1, 2, 3, 4, 5, 7, 9, 16, 20, 32)  # of batches


def answers_that_differ(made: Classifier, images: list[np.ndarray]) -> list[str]:
    """Sizes of batches, and threads, with which a probability has not, to the last bit, the value that it has in the
    largest batch with one thread."""
    before = torch.get_num_threads()
    differ = []
    try:
        torch.set_num_threads(1)
        expected = made.probabilities(images)
        for threads in sorted({1, available()}):
            torch.set_num_threads(threads)
            for size in SIZES:
                batches = [images[start : start + size] for start in range(0, len(images), size)]
                moved = (torch.cat([made.probabilities(batch) for batch in batches]) - expected).abs().max()
                if moved > 0:
                    differ.append(f"{size} images, {threads} threads: {moved:.2g}")
    finally:
        torch.set_num_threads(before)
    return differ


def main() -> None:
    model_dir, pixels = (Path(word) for word in sys.argv[1:])
    settings = read_settings(yaml.safe_load((model_dir / "model-config.yaml").read_text()))
    facts = read_facts(model_dir / "model.yaml")
    settings = replace(settings, precision="float32")
    made = Classifier(model_dir, facts, settings, gpu_id=None)
    print(*answers_that_differ(made, list(np.load(pixels))), sep="\n", end="")


if __name__ == "__main__":
    main()
