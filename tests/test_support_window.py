"""SECURITY.md's table of supported versions is what the code, the image and the pins are made for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pipeline.deployment.kserve_versions import SUPPORTED
from pipeline.serving.java import OLDEST
from pipeline.supply.components import CONSTRAINTS, pinned

CHECKOUT = Path(__file__).resolve().parents[1]


def test_the_table_says_what_is_supported() -> None:
    (section,) = re.findall(r"^## Supported versions\n(.*?)^## ", (CHECKOUT / "SECURITY.md").read_text(), re.M | re.S)
    table: dict[str, str] = dict(re.findall(r"^\| (\w+) \| (\d.*?) \|$", section, re.M))

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    commands = project["project"]["requires-python"].removeprefix(">=")
    handler = project["tool"]["ruff"]["per-file-target-version"]["handler/**/*.py"].replace("py3", "3.")
    dockerfile = (CHECKOUT / "kserve/runtime/Dockerfile").read_text()
    (image,) = re.findall(r"^ARG BASE=python:(3\.\d+)", dockerfile, re.M)
    pins = pinned(CHECKOUT / CONSTRAINTS)
    torch = pins["torch"].rpartition(".")[0]
    # No pin has this one: "torch 2.4 to …" in the handler, where it uses what torch does not document.
    (oldest_torch,) = re.findall(r"\btorch (2\.\d+) to ", (CHECKOUT / "handler/vision/model/int8.py").read_text())
    own = "or later for the handler in an image of yours"
    assert table == {
        "KServe": SUPPORTED,
        "Python": f"{commands} or later for the commands; {image} in the image; {handler} {own}",
        "PyTorch": f"{torch} in the image; {oldest_torch} {own}",
        "Java": f"{OLDEST} or later",
        "TorchServe": f"{pins['torchserve']}, its last release",
    }
