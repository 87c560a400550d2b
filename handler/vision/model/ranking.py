"""Probabilities → the most probable classes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from vision.protocol.answer import Prediction, ScoredClass


def read_classes(file: Path) -> list[tuple[str, str]]:
    """A JSON list of `[WordNet id, label]`, in the order of the network's output → the same."""
    return [(wnid, label) for wnid, label in json.loads(file.read_text(encoding="utf-8"))]


def top_k(probabilities: torch.Tensor, k: int, classes: list[tuple[str, str]]) -> Prediction:
    """Probabilities of one image, float32 (1000,) → its prediction, most probable class first.

    classes: (WordNet id, label) for each index.
    Raises ArithmeticError where they are not finite.
    """
    largest, indices = probabilities.topk(k)
    values = largest.tolist()
    if not all(map(math.isfinite, values)):  # softmax makes all of them NaN, or none
        raise ArithmeticError("the network's answer is not finite: are these weights trained for this model?")
    found = []
    for probability, index in zip(values, indices.tolist()):
        wnid, label = classes[index]
        found.append(ScoredClass(index, wnid, label, probability))
    return Prediction(found)
