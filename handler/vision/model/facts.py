"""What is known about the model: the archive's model.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from vision.image.preprocessing import Preprocessing


@dataclass(frozen=True)
class Facts:
    """classes: the name of the file beside it with the classes; see `ranking.read_classes`.

    bfloat16: whether the network may be computed in it, as packaging has proved.
    """

    name: str
    classes: str
    preprocessing: Preprocessing
    bfloat16: bool


def read_facts(file: Path) -> Facts:
    """The file was written when the archive was built, by pipeline/artefact/archive.py."""
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Facts(said["name"], said["classes"], Preprocessing(**said["preprocessing"]), said["bfloat16"])
