"""What is known about the model: models/NAME.yaml, which the archive holds as model.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from vision.image.preprocessing import Preprocessing


@dataclass(frozen=True)
class Facts:
    """labels: the name of the file beside it with the classes; see `ranking.read_classes`."""

    name: str
    labels: str
    preprocessing: Preprocessing


def read_facts(file: Path) -> Facts:
    """The file was checked when the archive was built, by pipeline/artefact/model.py."""
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Facts(said["name"], said["labels"], Preprocessing(**said["preprocessing"]))
