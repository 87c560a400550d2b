"""results/NAME-SERVER.json: what the last runs have left, for the tables of docs/reliability.md."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def read(name: str, server: str) -> Any:
    """As it was written; None where nothing was."""
    file = RESULTS / f"{name}-{server}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def write(name: str, server: str, content: object) -> None:
    """What was there before stays until this is complete."""
    RESULTS.mkdir(exist_ok=True)
    part = RESULTS / f".{name}-{server}.json"
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, RESULTS / part.name[1:])
