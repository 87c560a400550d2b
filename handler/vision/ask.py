"""What an archive answers, without TorchServe: python -m vision.ask FOLDER OUTPUT PRECISION… < PICTURES

FOLDER has an archive's files; PICTURES lists the paths of images, one per line. OUTPUT is an .npz file. It holds
`pixels`, uint8 (N, crop, crop, 3); for each precision its logits, float32 (N, classes), or, where the archive cannot
run in that precision, the reason as `no PRECISION`; and `refused`, the indices of PICTURES that a server would refuse.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from vision.errors import RequestError
from vision.image.decoder import decode, open_image
from vision.model.classifier import Classifier
from vision.model.devices import FLOAT32
from vision.model.facts import read_facts
from vision.worker.processors import available
from vision.worker.settings import read_settings


def ask(folder: Path, pictures: list[Path], precisions: list[str]) -> dict[str, np.ndarray]:
    """Asks about each picture as it is and transposed; then about the very first once more, alone."""
    config = yaml.safe_load((Path(__file__).parents[1] / "model-config.yaml").read_text(encoding="utf-8"))
    settings, facts = replace(read_settings(config), device="cpu"), read_facts(folder / "model.yaml")
    pixels: list[np.ndarray] = []
    refused = []
    for index, picture in enumerate(pictures):
        try:
            opened = open_image(picture.read_bytes(), picture.name, settings.limits.max_pixels)
            pixels += map(np.ascontiguousarray, views(decode(opened, facts.preprocessing)))
        except RequestError:
            refused.append(index)
    answers = {"refused": np.array(refused, np.int64)}
    if not pixels:
        return answers
    torch.set_num_threads(available())
    answers["pixels"] = np.stack([*pixels, pixels[0]])
    for precision in precisions:
        try:
            classifier = Classifier(folder, facts, replace(settings, precision=precision), gpu_id=None)
            answers[precision] = torch.cat([classifier.logits(pixels), classifier.logits(pixels[:1])]).numpy()
        except (ValueError, RuntimeError) as error:
            if precision == FLOAT32:
                raise
            answers[f"no {precision}"] = np.array(str(error))
    return answers


def views(image: np.ndarray) -> list[np.ndarray]:
    """uint8 (side, side, 3) → the image itself, and its transpose."""
    return [image, image.transpose(1, 0, 2)]


if __name__ == "__main__":
    folder, output, *precisions = sys.argv[1:]
    answers = ask(Path(folder), [Path(line) for line in sys.stdin.read().splitlines()], precisions)
    np.savez(output, **answers)  # type: ignore[arg-type]
