"""results/NAME-SERVER.json: the results of the last runs, for the tables in docs/reliability.md."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def read(name: str, server: str) -> Any:
    """The stored result; None if there is none."""
    file = RESULTS / f"{name}-{server}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def write(name: str, server: str, content: object) -> None:
    """The previous file stays until this one is complete."""
    RESULTS.mkdir(exist_ok=True)
    part = RESULTS / f".{name}-{server}.json"
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, RESULTS / part.name[1:])
