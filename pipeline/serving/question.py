"""The request with which the serving image, too, checks that the model is loaded."""

from __future__ import annotations

import json
from typing import Any

from pipeline.shared.checkout import CHECKOUT

QUESTION: dict[str, Any] = json.loads((CHECKOUT / "kserve" / "runtime" / "server" / "question.json").read_bytes())
