"""Checks and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NoReturn, TypeVar

from conformance.sources import Source

Case = TypeVar("Case")


class Outcome(Enum):
    """PASSED, or the kind of requirement that was not met: FAILED is a must, ADVISED a should."""

    PASSED = "passed"
    FAILED = "FAILED"
    ADVISED = "should"
    NOT_APPLICABLE = "not applicable"


class Verdict(Exception):
    """Ends a check. Its text says what was expected and what was received, or why the check does not apply."""

    outcome: Outcome


class Failed(Verdict):
    outcome = Outcome.FAILED


class Advised(Verdict):
    outcome = Outcome.ADVISED


class NotApplicable(Verdict):
    outcome = Outcome.NOT_APPLICABLE


class NoServer(Exception):
    """No server answers."""


def must(kept: bool, expected: str, got: object) -> None:
    """A requirement of the protocol. Raises Failed if it is not met."""
    if not kept:
        raise Failed(f"expected {expected}; got {got}")


def should(kept: bool, expected: str, got: object) -> None:
    """A recommendation of a document or good practice. It ends the check, so musts come first. Raises Advised."""
    if not kept:
        raise Advised(f"expected {expected}; got {got}")


def not_applicable(reason: str) -> NoReturn:
    raise NotApplicable(reason)


@dataclass(frozen=True)
class Check(Generic[Case]):
    """One check of a server. ask: returns if all is well, and raises a Verdict otherwise."""

    ask: Callable[[Case], None]
    source: Source

    @property
    def name(self) -> str:
        """Short, for --json and for tests."""
        return self.ask.__name__

    @property
    def sentence(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((self.ask.__doc__ or "").partition("\n\n")[0].split())


class Checks(Generic[Case]):
    """The checks of a file, in order."""

    def __init__(self) -> None:
        self._all: list[Check[Case]] = []

    def by(self, source: Source) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
        """Decorates a check with the document that requires it."""

        def add(ask: Callable[[Case], None]) -> Callable[[Case], None]:
            self._all.append(Check(ask, source))
            return ask

        return add

    def __iter__(self) -> Iterator[Check[Case]]:
        return iter(self._all)


@dataclass(frozen=True)
class Result:
    """detail: empty if the check passed. name, sentence: the check's."""

    name: str
    sentence: str
    source: Source
    outcome: Outcome
    detail: str = ""


def run(checks: Iterable[Check[Case]], case: Case) -> Iterator[Result]:
    """Runs one after the other. A bug in a check itself is raised, not hidden."""
    for check in checks:
        outcome, detail = Outcome.PASSED, ""
        try:
            check.ask(case)
        except Verdict as verdict:
            outcome, detail = verdict.outcome, str(verdict)
        except NoServer as error:
            outcome, detail = Outcome.FAILED, f"expected an answer; got no connection: {error}"
        yield Result(check.name, check.sentence, check.source, outcome, detail)
