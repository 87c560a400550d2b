"""torchvision: its classifiers, and the weights that it publishes for them.

The torchvision on PyPI is compiled against CUDA torch. With a CPU torch its import fails over operators that are not
used here. Declaring their schemas fixes that (and is done only if the import fails).
"""

from __future__ import annotations

import difflib
from typing import Any

import torch

try:
    import torchvision
except RuntimeError:
    _schemas = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for _name in ("nms", "qnms"):
        _schema = f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _schemas.define(_schema)  # type: ignore[no-untyped-call]
    import torchvision

from pipeline.shared.errors import PipelineError


def names() -> list[str]:
    """The names of the classifiers, in alphabetical order."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def check_name(architecture: str, place: str = "") -> None:
    """Raises PipelineError with the nearest names if torchvision has no such classifier. place: `FILE: `."""
    known = names()
    if architecture not in known:
        near = difflib.get_close_matches(architecture.lower().replace("-", ""), known, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known[:3])} and so on."
        raise PipelineError(
            f"{place}architecture: torchvision has no classifier {architecture!r}: {meant} "
            "Write a network of your own as file.py:function"
        )


def entry(architecture: str, name: str = "DEFAULT", place: str = "") -> Any:
    """One of torchvision's published weights: `IMAGENET1K_V1`, `DEFAULT`, or with its class, as in
    `ResNet18_Weights.IMAGENET1K_V1`. Raises PipelineError if the architecture has none of that name.
    """
    check_name(architecture, place)
    entries = torchvision.models.get_model_weights(architecture)
    of, _, last = name.rpartition(".")
    if of not in ("", entries.__name__) or last not in entries.__members__:
        (near,) = difflib.get_close_matches(last, entries.__members__, n=1, cutoff=0)
        good = f"{entries.__name__}.{near}" if of else near
        raise PipelineError(
            f"{place}weights: torchvision has no {name} for {architecture}: write {good}, "
            f"or ./{name} for a file of that name"
        )
    return entries[last]


def entries(architecture: str) -> list[Any]:
    """All published weights of an architecture."""
    return list(torchvision.models.get_model_weights(architecture))


__all__ = ["check_name", "entries", "entry", "names", "torchvision"]
