"""What others say, made fit for a sentence."""

from __future__ import annotations


def one_line(text: object, most: int | None = 400) -> str:
    """Text on one line, with single spaces, of at most so many characters."""
    return " ".join(str(text or "").split())[:most]


def first_line(text: object) -> str:
    """For libraries that go on for paragraphs."""
    return str(text).strip().partition("\n")[0]
