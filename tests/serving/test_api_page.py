"""docs/api.md says what openapi.yaml says; its shell lines work, and their answers have the shapes that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import api_page

PAGE = api_page.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answers(door_url: str, checkout: Path) -> list[Any]:
    """The answer of each block, in the page's order."""
    return [
        json.loads(
            subprocess.run(
                ["sh", "-euc", block],
                cwd=checkout,
                env=os.environ | {"URL": door_url, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                check=True,
            ).stdout
        )
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    ]


@pytest.fixture(scope="module")
def shown() -> list[Any]:
    """What the page says that they answer, of predictions."""
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_its_tables_are_the_descriptions() -> None:
    command = "python -m tests.support.api_page"
    assert api_page.page(PAGE, api_page.description()) == PAGE, f"docs/api.md is out of date: {command}"


def test_it_has_every_parameter_and_field_of_a_request() -> None:
    document = api_page.description()
    called = [call["post"] for call in document["paths"].values() if "post" in call]
    names = {parameter["name"] for call in called for parameter in call["parameters"]}
    for call in called:
        for content in call["requestBody"]["content"].values():
            names |= set(fields(content["schema"], document))
    code = " ".join(re.findall(r"```.*?```|`[^`]+`", PAGE, re.DOTALL))
    assert [name for name in sorted(names) if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code)] == []


def fields(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    """The names of all fields of a body, those of its parts included."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, field in schema.get("properties", {}).items():
        yield name
        yield from fields(field, document)
    if "items" in schema:
        yield from fields(schema["items"], document)


def test_the_limits_it_names_are_the_settings(checkout: Path) -> None:
    limits = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())["handler"]["limits"]
    said = " ".join(PAGE.partition("## Limits")[2].split())
    assert f"at most {limits['max_image_bytes'] >> 20} MiB and {limits['max_pixels'] // 10**6} million pixels" in said
    assert f"at most {limits['max_instances']} instances, 16 MiB" in said
    assert f"and {limits['max_request_pixels'] // 10**6} million pixels" in said
    assert f"at most {limits['max_classes']:,} classes" in said
    assert f"`top_k`, {limits['default_top_k']} by default" in PAGE


def test_an_answer_in_v1_is_like_the_one_shown(answers: list[Any], shown: list[Any]) -> None:
    (answered,), (expected,) = (each["predictions"] for each in (answers[0], shown[0]))
    assert [entry.keys() for entry in answered["classes"]] == [entry.keys() for entry in expected["classes"]]


def test_an_answer_in_v2_is_like_the_one_shown(answers: list[Any], shown: list[Any]) -> None:
    assert answers[1].keys() == shown[1].keys()
    for output, expected in zip(answers[1]["outputs"], shown[1]["outputs"], strict=True):
        assert output | {"data": None} == expected | {"data": None}
        assert list(map(type, output["data"])) == list(map(type, expected["data"]))


def test_an_explanation_is_like_the_one_described(answers: list[Any]) -> None:
    (explanation,) = answers[2]["explanations"]
    assert explanation.keys() == {"class", "form", "content_type", "grid"}
    assert explanation["class"] == answers[2]["predictions"][0]["classes"][0]
    assert all(0 <= number <= 1 for row in explanation["grid"] for number in row)
