"""What the cluster was asked to change, so that whoever is stopped can be told how far it came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.deployment.names import SERVICE, with_name
from pipeline.deployment.voice import Line
from pipeline.shared.signals import Terminated


class Changes:
    """service: its name, as soon as it is known."""

    def __init__(self, namespace: str, service: str = SERVICE) -> None:
        self._namespace = namespace
        self.service = service
        self.begin()

    def begin(self, then: str | None = None) -> None:
        """From here on, nothing was changed. then: how to go on after what follows, where that is no deployment."""
        self._then = then
        self._made: list[str] = []
        self._under_way: str | None = None

    @contextmanager
    def making(self, change: str) -> Iterator[None]:
        """One change, such as `delete ServiceAccount alexnet`. Where it fails, it may have come through."""
        self._under_way = change
        yield
        self._made.append(change)
        self._under_way = None

    @contextmanager
    def named_when_stopped(self, warn: Line) -> Iterator[None]:
        """A signal that ends what is done here leaves a state that `warn` is told."""
        self.begin()
        try:
            yield
        except Terminated:
            warn(f"interrupted; {self.state()}")
            raise

    def state(self) -> str:
        """What the cluster was asked for, and how to go on."""
        made = [*self._made, *([f"perhaps {self._under_way}"] if self._under_way else [])]
        if not made:
            return "nothing was changed"
        back, away = with_name("--rollback", self.service), with_name("--delete", self.service)
        then = self._then or f"run this again to follow it, or use {back} or {away}"
        return (
            f"in namespace {self._namespace} this was requested, and the cluster is still working on it: "
            f"{', '.join(made)}; {then}"
        )
