"""The networks that are measured: torchvision's classifiers, four of timm's, and a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.artefact import zoo

FILES = Path(__file__).parent
TIMM = ("resnet50d", "vit_small_patch16_224", "mobilenetv4_conv_small", "convnextv2_atto")


@dataclass(frozen=True)
class Architecture:
    """name: in the results. said: as in a model file. family: torchvision's module; `timm` or `own` for files."""

    name: str
    said: str
    family: str

    @property
    def file(self) -> Path | None:
        """The Python file that a model file needs next to it."""
        name, colon, _ = self.said.partition(":")
        return FILES / name if colon else None


def all_of_them() -> list[Architecture]:
    """Those with the fewest operations first, by torchvision's count; then those from files."""
    quickest_first = sorted(zoo.names(), key=lambda name: float(zoo.entry(name).meta["_ops"]))
    found = [Architecture(name, name, _family(name)) for name in quickest_first]
    found += [Architecture(name, f"of_timm.py:{name}", "timm") for name in TIMM]
    return [*found, Architecture("own", "own.py:build", "own")]


def _family(name: str) -> str:
    builder = zoo.torchvision.models.get_model_builder(name)
    return str(builder.__module__).rpartition(".")[2]
