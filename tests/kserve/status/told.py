"""A model that a test controls, and the answers about it."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Protocol

from server.door import OverSocket
from server.model import Model

NAME, VERSION = "alexnet", "0123456789ab"


class ToldModel(Model):
    """silent_s: seconds since its last answer; None before the first."""

    def __init__(self) -> None:
        super().__init__(0, "")
        self.silent_s: float | None = 0

    @property
    def started(self) -> bool:
        return self.silent_s is not None

    def answered_within(self, seconds: float) -> bool:
        return self.silent_s is not None and self.silent_s < seconds


class Told:
    """An answer, fully read."""

    def __init__(self, answer: HTTPResponse) -> None:
        self.status, self.headers, self.content = answer.status, answer.headers, answer.read()


class Ask(Protocol):
    """Sends one request to the fixtures' server."""

    def __call__(self, target: str, method: str = "GET") -> Told: ...


class Serve(Protocol):
    """Starts a server, with or without an archive, and returns the path of its socket."""

    def __call__(self, archive: Path | None = None) -> Path: ...


def ask_at(path: Path, target: str, method: str = "GET") -> Told:
    """Sends one request to a socket."""
    with closing(OverSocket(path)) as connection:
        connection.request(method, target)
        return Told(connection.getresponse())
