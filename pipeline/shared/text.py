"""What others say, made fit for a sentence."""

from __future__ import annotations


def one_line(text: object, most: int = 400) -> str:
    """Text on one line, with single spaces, of at most so many characters."""
    return " ".join(str(text or "").split())[:most]
