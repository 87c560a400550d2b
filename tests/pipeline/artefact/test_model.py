"""What models/*.yaml may say, and what is wrong in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artefact.model import MODEL, read_model
from pipeline.shared.errors import PipelineError
from tests.support.reference import TRANSFORM


def test_the_model_is_what_torchvision_was_trained_with() -> None:
    said = yaml.safe_load(MODEL.file.read_text())["preprocessing"]
    assert [said["resize"]] == TRANSFORM.resize_size
    assert [said["crop"]] == TRANSFORM.crop_size
    assert (said["mean"], said["std"]) == (TRANSFORM.mean, TRANSFORM.std)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("name", "Alex Net", "lower-case letters, digits and hyphens"),
        ("name", None, "lower-case letters, digits and hyphens"),
        ("weights", "imagenet", ""),
        ("weights.url", "http://example.org/alexnet.pth", "an https URL"),
        ("weights.sha256", "7be5be79", "64 hexadecimal digits"),
        ("labels", "../labels.json", "the name of a JSON file beside it"),
        ("preprocessing.resize", "256", "a whole number above 0"),
        ("preprocessing.crop", True, "a whole number above 0"),
        ("preprocessing.mean", [0.5, 0.5], "three numbers between 0 and 1"),
        ("preprocessing.std", [0, 0, 0], "three numbers between 0 and 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, place: str, value: Any, expected: str) -> None:
    said = yaml.safe_load(MODEL.file.read_text())
    *above, last = place.split(".")
    parent = said
    for name in above:
        parent = parent[name]
    parent[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    with pytest.raises(PipelineError) as refusal:
        read_model(file)
    assert str(refusal.value).startswith(f"{file}: {place}")
    assert str(refusal.value).endswith(f" must be {expected}" if expected else " must be an https URL")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("crop", 257, "preprocessing.crop must be at most preprocessing.resize"),
        ("antialias", True, "preprocessing.antialias is nothing that images are prepared by"),
    ],
)
def test_images_that_could_not_be_prepared_so_are_told(
    tmp_path: Path, place: str, value: object, sentence: str
) -> None:
    said = yaml.safe_load(MODEL.file.read_text())
    said["preprocessing"][place] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    with pytest.raises(PipelineError) as refusal:
        read_model(file)
    assert str(refusal.value) == f"{file}: {sentence}"


@pytest.mark.parametrize("content", [b"", b"[]", b"name: [", b"\xff\xfe", b"name: alexnet\n", b"name: 2026-02-30\n"])
def test_what_is_no_such_file_is_told_in_a_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(PipelineError, match=r"^[^\n]+$"):
        read_model(file)
