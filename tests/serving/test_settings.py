"""config.properties and model-config.yaml say what they are meant to, and fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ts.model_server import load_properties


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
    assert properties["load_models"] == "alexnet.mar"
    assert properties["allowed_urls"].startswith("file:///mnt/models/")


def test_the_largest_image_fits_into_a_request(properties: dict[str, str], limits: dict[str, int]) -> None:
    assert int(properties["max_request_size"]) > limits["max_image_bytes"] * 4 / 3 + 100_000


def test_the_largest_answer_fits_into_a_response(properties: dict[str, str], limits: dict[str, int]) -> None:
    longest_class = 160  # bytes: the longest label has 32 characters
    assert int(properties["max_response_size"]) > limits["max_instances"] * limits["max_top_k"] * longest_class


def test_each_setting_that_matters_has_its_reason(checkout: Path) -> None:
    above = ""
    for line in (checkout / "config.properties").read_text().splitlines():
        if line and not line.startswith("#"):
            assert above, f"{line}: no line above says why"
        above = line
