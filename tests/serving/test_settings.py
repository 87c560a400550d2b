"""config.properties and model-config.yaml say what they are meant to, and fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ts.model_server import load_properties

from vision.model.ranking import LONGEST_LABEL, read_classes
from vision.protocol.v1 import class_bytes
from vision.worker.settings import ANSWER_BYTES, LimitSettings


@pytest.fixture(scope="module")
def properties(checkout: Path) -> dict[str, str]:
    return dict(load_properties(str(checkout / "config.properties")))


@pytest.fixture(scope="module")
def limits(checkout: Path) -> dict[str, int]:
    return dict(yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())["handler"]["limits"])


def test_only_inference_listens_to_other_machines(properties: dict[str, str]) -> None:
    addresses = {name: value for name, value in properties.items() if name.endswith("_address")}
    wide = {name for name, value in addresses.items() if "127.0.0.1" not in value}
    assert wide == {"inference_address"}
    assert properties["inference_address"].endswith(":8080")


def test_nothing_can_be_registered(properties: dict[str, str]) -> None:
    assert properties["enable_model_api"] == "false"
    assert properties["load_models"] == "all"
    assert properties["allowed_urls"].startswith("file:///mnt/models/")


def test_the_largest_image_fits_into_a_request(properties: dict[str, str], limits: dict[str, int]) -> None:
    assert int(properties["max_request_size"]) > limits["max_image_bytes"] * 4 / 3 + 100_000


def test_the_largest_answers_of_a_batch_fit_into_a_response(properties: dict[str, str], checkout: Path) -> None:
    batch_size = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())["batchSize"]
    for_heads = 100_000
    assert int(properties["max_response_size"]) > batch_size * ANSWER_BYTES + for_heads


def test_what_is_asked_by_default_always_fits_into_an_answer(limits: dict[str, int]) -> None:
    longest = class_bytes([("n02123045", "🐈" * LONGEST_LABEL)] * 100_000)
    assert limits["max_instances"] * limits["default_top_k"] * longest <= ANSWER_BYTES


def test_imagenets_labels_leave_as_many_classes_as_the_setting_says(checkout: Path, limits: dict[str, int]) -> None:
    imagenets = class_bytes(read_classes(checkout / "models" / "imagenet_classes.json"))
    assert LimitSettings(**limits).of_model(1000, imagenets).max_classes == limits["max_classes"] == 10_000


def test_each_setting_that_matters_has_its_reason(checkout: Path) -> None:
    above = ""
    for line in (checkout / "config.properties").read_text().splitlines():
        if line and not line.startswith("#"):
            assert above, f"{line}: no line above says why"
        above = line
