"""Which changes were requested from the cluster, so that an interrupted run can say how far it got."""

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
        """Starts again with no changes. then: how to go on after the changes that follow, if they are no deployment."""
        self._then = then
        self._made: list[str] = []
        self._under_way: str | None = None

    @contextmanager
    def making(self, change: str) -> Iterator[None]:
        """One change, such as `delete ServiceAccount alexnet`. If it fails, it may still have taken effect."""
        self._under_way = change
        yield
        self._made.append(change)
        self._under_way = None

    @contextmanager
    def named_when_stopped(self, warn: Line) -> Iterator[None]:
        """If a signal ends this block, `warn` gets the state that it leaves."""
        self.begin()
        try:
            yield
        except Terminated:
            warn(f"interrupted; {self.state()}")
            raise

    def state(self) -> str:
        """What was requested from the cluster, and how to go on."""
        made = [*self._made, *([f"perhaps {self._under_way}"] if self._under_way else [])]
        if not made:
            return "nothing was changed"
        back, away = with_name("--rollback", self.service), with_name("--delete", self.service)
        then = self._then or f"run this again to follow it, or use {back} or {away}"
        return (
            f"in namespace {self._namespace} this was requested, and the cluster is still working on it: "
            f"{', '.join(made)}; {then}"
        )
