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
        """What the JSON says; {} where it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return {}

    @property
    def fields(self) -> dict[str, Any]:
        """Those of the body; none where it is no JSON object."""
        body = self.body
        return body if isinstance(body, dict) else {}

    @property
    def message(self) -> str:
        """The sentence of a Kubernetes Status, on one line; or the body, where it is something else."""
        return one_line(self.fields.get("message") or self.text, 500)
