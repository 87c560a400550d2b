"""Guesses whose weights a file holds if they do not fit the given architecture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.artefact import zoo
from pipeline.artefact.architecture import layout
from pipeline.artefact.checkpoint import Overlap, overlaps
from pipeline.artefact.layout import Layout
from pipeline.shared.errors import PipelineError
from pipeline.shared.terminal import spinner

POSITIONS = "encoder.pos_embedding"  # of ViT: one for each patch of an image, and one more
OWN_FILE = "set architecture: file.py:function to the function that built the network for training"


@dataclass(frozen=True)
class _Match:
    architecture: str
    layout: Layout
    overlap: Overlap


def advice(file: Path, said: str) -> str:
    """Which of torchvision's classifiers the weights in a file look like, and what to do; empty if they match none.

    said: the architecture that they do not fit.
    """
    with spinner("whose weights are these? …"):
        known = layouts()
        try:
            found = overlaps(file, list(known.values()))
        except PipelineError:  # about weights that match none
            return ""
    matches = [_Match(name, known[name], one) for name, one in zip(known, found, strict=True) if one]
    for match in matches:
        if not match.overlap.missing and not match.overlap.others:
            return f"it looks like {match.architecture}: write architecture: {match.architecture} in a model file"
    for match in matches:
        if set(match.overlap.missing) == {POSITIONS} and not match.overlap.others:
            return _at_another_size(match, said)
    for match in sorted(matches, key=lambda one: one.architecture != said):
        if head := _another_head(match):
            return head
    return ""


@cache
def layouts() -> dict[str, Layout]:
    """The layouts of all of torchvision's classifiers, at the image sizes of their newest weights."""
    return {name: layout(name, _crop(name)) for name in zoo.names()}


def _crop(architecture: str) -> int:
    crop: int = zoo.entry(architecture).transforms().crop_size[0]
    return crop


def _at_another_size(match: _Match, said: str) -> str:
    """A ViT that was trained on images of another size has another number of positions."""
    patch = match.layout.shapes["conv_proj.weight"][-1] or 1
    positions = match.overlap.shapes[POSITIONS][1]
    crop = math.isqrt(positions - 1) * patch
    architecture = "" if match.architecture == said else f"architecture: {match.architecture}, "
    return (
        f"it looks like {match.architecture} for images of {crop} pixels: write {architecture}"
        f"preprocessing: {{resize: {crop}, crop: {crop}}} in a model file"
    )


def _another_head(match: _Match) -> str:
    """For weights that match this architecture except for its last part."""
    tops = {name.partition(".")[0] for name, shape in match.layout.shapes.items() if None in shape}
    outside = [name for name in match.overlap.missing + match.overlap.others if name.partition(".")[0] not in tops]
    body = [name for name in match.layout.shapes if name.partition(".")[0] not in tops]
    if outside or not body:
        return ""
    theirs = match.overlap.others[:1] or match.overlap.missing[:1]
    missing = match.overlap.missing[:1] or ["nothing"]
    return (
        f"it looks like {match.architecture} with a different last part "
        f"({theirs[0]}, where torchvision has {missing[0]}): "
        f"{OWN_FILE}"
    )
