"""The shell lines of docs/api.md work, and their answers have the shapes that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answers(door_url: str, checkout: Path) -> list[Any]:
    """Of each block, in the page's order."""
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


def test_an_answer_in_v2_is_like_the_one_shown(answers: list[Any]) -> None:
    (shown,) = map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    answered = answers[0]
    assert answered.keys() == shown.keys()
    for output, expected in zip(answered["outputs"], shown["outputs"], strict=True):
        assert output | {"data": None} == expected | {"data": None}
        assert list(map(type, output["data"])) == list(map(type, expected["data"]))


def test_an_explanation_is_like_the_one_described(answers: list[Any]) -> None:
    (explanation,) = answers[1]["explanations"]
    assert explanation.keys() == {"class", "form", "content_type", "grid"}
    assert explanation["class"] == answers[1]["predictions"][0]["classes"][0]
    assert all(0 <= number <= 1 for row in explanation["grid"] for number in row)
