"""Checks of what a provider's own code refuses when it plans, without the provider.

The stand-ins for providers know only schemas: names, types, required arguments. A real provider also has validators
(ValidateFunc, ConflictsWith, ExactlyOneOf, AtLeastOneOf, RequiredWith, CustomizeDiff), which would first run in
somebody's project. The tables (google_arguments.py, …) have them, taken from the provider's code for each argument.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """What a provider requires of one argument or block. Paths of others are absolute, without indices.

    `wanted` says what `fits` accepts. The others apply if the argument is set: to anything, even to false or 0.
    """

    wanted: str = ""
    fits: Callable[[Any], bool] = lambda value: True
    conflicts: tuple[str, ...] = ()
    exactly_one_of: tuple[str, ...] = ()
    at_least_one_of: tuple[str, ...] = ()
    required_with: tuple[str, ...] = ()

    def but(self, **relations: tuple[str, ...]) -> Check:
        """The same, with relations to other arguments."""
        return replace(self, **relations)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kind:
    """What a provider requires of a resource: `source` is where its code is."""

    source: str
    arguments: Mapping[str, Check]
    # Checks of several arguments at once (CustomizeDiff, and refusals when it applies): what is wrong, or nothing.
    whole: tuple[Callable[[Values], str], ...] = field(default=())


ANY = Check()


def one_of(*names: str) -> Check:
    """StringInSlice, ValidateEnum: one of these, case-sensitive."""
    return Check(f"one of {', '.join(map(repr, names))}", lambda value: value in names)


def matches(pattern: str, wanted: str = "") -> Check:
    """StringMatch, ValidateRegexp. In Go `$` is the end, as `\\Z` in Python."""
    compiled = re.compile(re.sub(r"\$$", r"\\Z", pattern))
    return Check(wanted or f"like {pattern}", lambda value: bool(compiled.search(value)))


def each(check: Check) -> Check:
    """Applies to every element of a list or a set."""
    return Check(f"a list, each {check.wanted}", lambda values: all(map(check.fits, values)))


def items(least: int, most: int) -> Check:
    """MinItems, MaxItems of a list or set that is not a block: JSON schemas leave them out."""
    return Check(f"a list of {least} to {most}", lambda values: least <= len(values) <= most)


def is_whole(value: object) -> bool:
    """Terraform has one kind of number, the providers have two: a TypeInt of 1.5 is refused."""
    return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)


WHOLE = Check("a whole number", is_whole)


def at_least(least: int) -> Check:
    """IntAtLeast."""
    return Check(f"a whole number, {least} or more", lambda value: is_whole(value) and value >= least)


def between(least: int, most: int) -> Check:
    """IntBetween."""
    return Check(f"a whole number from {least} to {most}", lambda value: is_whole(value) and least <= value <= most)


def float_between(least: float, most: float) -> Check:
    """FloatBetween."""
    return Check(f"a number from {least} to {most}", lambda value: least <= value <= most)


def length(least: int, most: int) -> Check:
    """StringLenBetween; counts bytes, as Go's len does."""
    return Check(f"{least} to {most} bytes", lambda value: least <= len(value.encode()) <= most)


def network(least: int, most: int) -> Check:
    """IsCIDRNetwork: a CIDR with no host bits set and a prefix within bounds, IPv4 or IPv6."""

    def fits(value: str) -> bool:
        try:
            found = ipaddress.ip_network(value)  # strict: no bit of a host
        except ValueError:
            return False
        return str(found) == value and least <= found.prefixlen <= most

    return Check(f"a CIDR of /{least} to /{most} that begins at its first address", fits)


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def fits(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return fits


# ParseCIDR: any address of the range.
CIDR = Check("a CIDR", lambda value: "/" in value and _parses(ipaddress.ip_interface)(value))

ADDRESS = Check("an IP address", _parses(ipaddress.ip_address))

# time.Parse(time.RFC3339, …)
RFC3339 = Check(
    "a time such as 2026-01-03T01:00:00Z",
    lambda value: (
        bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value))
        and _parses(datetime.fromisoformat)(value)
    ),
)

# time.ParseDuration
DURATION = Check(
    "a duration such as 1h30m",
    lambda value: bool(re.fullmatch(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", value)),
)


def listed(values: Any, path: str) -> list[Any]:
    """An argument's values, one for each block that contains it."""
    name, _, rest = path.partition(".")
    if isinstance(values, list):
        return [found for value in values for found in listed(value, path)]
    if not isinstance(values, dict) or values.get(name) is None or values[name] == []:
        return []
    return listed(values[name], rest) if rest else [values[name]]


def only(values: Any, paths: Collection[str]) -> Any:
    """The values of the arguments that a resource's text sets."""
    if isinstance(values, list):
        return [only(value, paths) for value in values]
    inner = {name: [path.partition(".")[2] for path in paths if path.startswith(f"{name}.")] for name in values}
    return {
        name: only(value, inner[name]) if inner[name] and value is not None else value
        for name, value in values.items()
        if name in paths
    }


def refusals(kind: Kind, values: Values, to_come: frozenset[str] = frozenset()) -> Iterator[str]:
    """What the provider would refuse in a resource: `place: what is wrong`.

    values: as in a plan, with blocks as lists; null and [] mean not set.
    to_come: arguments whose values are known only later, and are not checked yet.
    """

    def is_set(path: str) -> bool:
        return path == "" or path in to_come or bool(listed(values, path))

    for path, check in kind.arguments.items():
        for value in listed(values, path) if path else ():
            if not check.fits(value):
                yield f"{path}: {value!r} is not {check.wanted}"
        if not is_set(path):
            continue
        for other in check.conflicts:
            if is_set(other):
                yield f"{path}: conflicts with {other}"
        if check.exactly_one_of and sum(map(is_set, check.exactly_one_of)) != 1:
            yield f"{path or 'it'}: exactly one of {', '.join(check.exactly_one_of)}"
        if check.at_least_one_of and not any(map(is_set, check.at_least_one_of)):
            yield f"{path or 'it'}: at least one of {', '.join(check.at_least_one_of)}"
        for other in check.required_with:
            if not is_set(other):
                yield f"{path}: asks for {other}"
    yield from (wrong for look in kind.whole if (wrong := look(values)))
