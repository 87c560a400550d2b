"""The result of one part of `make audit`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Of one part. `findings`: one line each; if there are none and it is not `fine`, the part could not be done."""

    fine: bool
    said: str
    findings: tuple[str, ...] = ()

    @classmethod
    def of(cls, looked_at: str, findings: list[str]) -> Outcome:
        said = f"{len(findings)} found in {looked_at}" if findings else f"nothing found in {looked_at}"
        return cls(not findings, said, tuple(findings))


class Undone(Exception):
    """A part could not be done; the message says why."""
