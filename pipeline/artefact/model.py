"""What is packed and served."""

from __future__ import annotations

MODEL_NAME = "alexnet"
