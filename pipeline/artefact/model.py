"""What is packed and served: models/NAME.yaml, the one home of what is known about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError


@dataclass(frozen=True)
class Model:
    """file: which said so. labels: the file with the classes."""

    file: Path
    name: str
    weights_url: str
    weights_sha256: str
    labels: Path


def read_model(file: Path) -> Model:
    """Raises PipelineError naming what is wrong in the file; OSError where it cannot be read."""
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):  # such as a date that there is not, or bytes that are no UTF-8
        raise PipelineError(f"{file} is not YAML") from None
    for place, (is_right, expected) in EXPECTED.items():
        if not is_right(_at(said, place)):
            raise PipelineError(f"{file}: {place} must be {expected}")
    preprocessing = said["preprocessing"]
    if unknown := sorted(map(str, preprocessing.keys() - {"resize", "crop", "mean", "std"})):
        raise PipelineError(f"{file}: preprocessing.{unknown[0]} is nothing that images are prepared by")
    if preprocessing["crop"] > preprocessing["resize"]:
        raise PipelineError(f"{file}: preprocessing.crop must be at most preprocessing.resize")
    weights = said["weights"]
    return Model(file, said["name"], weights["url"], weights["sha256"], file.with_name(said["labels"]))


def _at(said: object, place: str) -> object:
    for name in place.split("."):
        said = said.get(name) if isinstance(said, dict) else None
    return said


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _are_pixels(value: object) -> bool:
    return type(value) is int and value > 0


def _are_channels(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(each) is float and 0 < each < 1 for each in value)


# What the file says: whether that is right, and what would be.
EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_matches("[a-z0-9-]+"), "lower-case letters, digits and hyphens"),
    "weights.url": (_matches(r"https://\S+"), "an https URL"),
    "weights.sha256": (_matches("[0-9a-f]{64}"), "64 hexadecimal digits"),
    "labels": (_matches(r"[\w-]+\.json"), "the name of a JSON file beside it"),
    "preprocessing.resize": (_are_pixels, "a whole number above 0"),
    "preprocessing.crop": (_are_pixels, "a whole number above 0"),
    "preprocessing.mean": (_are_channels, "three numbers between 0 and 1"),
    "preprocessing.std": (_are_channels, "three numbers between 0 and 1"),
}

MODEL = read_model(CHECKOUT / "models" / "alexnet.yaml")
MODEL_NAME = MODEL.name
