"""Why a known CVE does no harm here: statements.yaml, which names the tests that prove each statement (VEX)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.supply.outcome import Undone

DATA = Path(__file__).with_name("statements.yaml")
STATES = ("not_affected", "in_triage")
JUSTIFICATIONS = (
    "code_not_present",
    "code_not_reachable",
    "requires_configuration",
    "requires_environment",
    "protected_at_perimeter",
)


@dataclass(frozen=True)
class Statement:
    """covers: pairs of a library and a CVE. classes: Java classes, or prefixes, that TorchServe never uses."""

    because: str
    state: str
    justification: str | None
    tests: tuple[str, ...]
    classes: tuple[str, ...]
    covers: frozenset[tuple[str, str]]


def made(data: Path = DATA) -> list[Statement]:
    """Raises Undone if the file is malformed."""
    try:
        return [_statement(entry) for entry in yaml.safe_load(data.read_text())["statements"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise Undone(f"{data.name} cannot be read: {error!r}") from None


def _statement(entry: dict[str, Any]) -> Statement:
    state, justification = entry.get("state", STATES[0]), entry.get("justification")
    if state not in STATES or (state == "not_affected") != (justification in JUSTIFICATIONS):
        raise ValueError(f"{state}, {justification}: {entry['because']}")
    return Statement(
        entry["because"],
        state,
        justification,
        tuple(entry["tests"]),
        tuple(entry.get("classes", ())),
        frozenset((library, cve) for library, cves in entry["for"].items() for cve in cves),
    )


def about(library: str, names: Iterable[str], statements: list[Statement]) -> Statement | None:
    """The statement about a vulnerability of this library that has one of these names."""
    wanted = {(library, name) for name in names}
    return next((each for each in statements if each.covers & wanted), None)


def without_tests(statements: list[Statement], checkout: Path) -> Iterator[str]:
    """One line for each statement that no test proves."""
    functions: dict[str, set[str]] = {}
    for each in statements:
        if not each.tests:
            yield f"a statement names no test: {each.because}"
        for test in each.tests:
            file, _, function = test.partition("::")
            if file not in functions:
                functions[file] = _tests_in(checkout / file)
            if function not in functions[file]:
                yield f"no test {test}, which should prove: {each.because}"


def _tests_in(file: Path) -> set[str]:
    try:
        body = ast.parse(file.read_text()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    return {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not _skipped(node)
    }


def _skipped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A test that never runs proves nothing. (One that is skipped because a tool is missing reports it.)"""
    return any(
        "pytest.mark.skip" in ast.unparse(each) or "xfail" in ast.unparse(each) for each in function.decorator_list
    )
