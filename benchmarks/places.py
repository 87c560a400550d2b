"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOM = Path(__file__).resolve().parent
CHECKOUT = ROOM.parent
HANDLER = CHECKOUT / "handler"
PEERS = ROOM / "peers"
RESULTS = ROOM / "results"
PHOTOGRAPHS = sorted((CHECKOUT / "docs" / "photographs").glob("*.jpg"))

# Generated, and ignored by git.
ENVIRONMENTS = ROOM / ".environments"
IMAGES = ROOM / ".images"
WEIGHTS = ROOM / ".weights"
