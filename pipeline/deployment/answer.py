"""What the API server answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.shared.text import one_line


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def body(self) -> Any:
        """The parsed JSON; {} if it is not JSON."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return {}

    @property
    def fields(self) -> dict[str, Any]:
        """The body's fields; empty if it is not a JSON object."""
        body = self.body
        return body if isinstance(body, dict) else {}

    @property
    def message(self) -> str:
        """The message of a Kubernetes Status, on one line; or the body, if it is something else."""
        return one_line(self.fields.get("message") or self.text, 500)
