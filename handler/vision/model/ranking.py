"""Probabilities → the most probable classes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import torch

from vision.protocol.answer import Prediction, ScoredClass

WORDNET_ID = re.compile(r"n[0-9]{8}")
LONGEST_LABEL = 250  # characters; five classes for each of 64 images then always fit into an answer
Class = tuple[Optional[str], str]  # WordNet id, if any, and label


def read_classes(file: Path) -> list[Class]:
    """A JSON list of `[WordNet id or null, label]`, in the order of the network's output → the same.

    Raises ValueError, with a sentence for the server's log, if the file holds anything else.
    """
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # not JSON, not UTF-8
        said = None
    if not isinstance(said, list) or not said:
        raise ValueError(f"{file.name} must be a JSON list of at least one class")
    for index, entry in enumerate(said):
        if not _is_class(entry):
            raise ValueError(
                f"{file.name}: class {index} must be [WordNet id, label], the id such as n02123045 or null, "
                f"the label a text of 1 to {LONGEST_LABEL} characters"
            )
    return [(wnid, label) for wnid, label in said]


def _is_class(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    wnid, label = entry
    has_id = wnid is None or (isinstance(wnid, str) and WORDNET_ID.fullmatch(wnid) is not None)
    return has_id and isinstance(label, str) and 0 < len(label) <= LONGEST_LABEL and _is_unicode(label)


def _is_unicode(text: str) -> bool:
    """JSON can hold lone surrogates, which UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def top_k(probabilities: torch.Tensor, k: int, classes: Sequence[Class]) -> Prediction:
    """Probabilities of one image, float32 (classes,) → its prediction, most probable class first.

    k: at most the number of classes. classes: by index.
    Raises ArithmeticError if the probabilities are not finite.
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
