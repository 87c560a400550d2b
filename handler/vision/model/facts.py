"""Facts about the model, from the archive's model.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from vision.image.preprocessing import Preprocessing

MOST_CHARACTERS = 100_000  # usually a few hundred
MOST_PIXELS = 4096


@dataclass(frozen=True)
class Facts:
    """classes: the name of the file with the classes, next to model.yaml; see `ranking.read_classes`.

    bfloat16: whether packaging has proved that precision. int8: whether there is an 8-bit network.
    """

    name: str
    classes: str
    preprocessing: Preprocessing
    bfloat16: bool
    int8: bool = False


def read_facts(file: Path) -> Facts:
    """Reads what pipeline/artefact/contents.py wrote when the archive was built. Raises ValueError, with a sentence,
    for anything else.
    """
    with open(file, encoding="utf-8") as opened:
        said = yaml.safe_load(opened.read(MOST_CHARACTERS))
    try:
        facts = Facts(
            said["name"],
            said["classes"],
            Preprocessing(**said["preprocessing"]),
            said["bfloat16"],
            said.get("int8", False),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file.name} is not what packaging wrote: {error}") from None
    seen = facts.preprocessing
    sizes, colours = (seen.resize, seen.crop), (seen.mean, seen.std)
    if (
        not all(isinstance(each, str) for each in (facts.name, facts.classes))
        or Path(facts.classes).name != facts.classes
        or not all(type(size) is int for size in sizes)
        or not 0 < seen.crop <= seen.resize <= MOST_PIXELS
        or not all(isinstance(each, list) and [type(value) for value in each] == [float] * 3 for each in colours)
        or not all(value > 0 for value in seen.std)
        or not all(type(each) is bool for each in (facts.bfloat16, facts.int8))
    ):
        raise ValueError(f"{file.name} is not what packaging wrote: name, classes, sizes or colours are malformed")
    return facts
