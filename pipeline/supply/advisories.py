"""Known vulnerabilities of a version: from advisories.yaml, and from OSV if it can be reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from pipeline.supply.components import Component
from pipeline.supply.outcome import Undone

DATA = Path(__file__).with_name("advisories.yaml")
OSV = "https://api.osv.dev/v1/query"
TIMEOUT_S = 10


@dataclass(frozen=True)
class Advisory:
    """introduced: the first affected version; None: all old ones. fixed: the first version that is not affected."""

    id: str
    library: str
    introduced: str | None
    fixed: str
    what: str

    def affects(self, component: Component) -> bool:
        """A version that cannot be parsed counts as affected."""
        if component.name != self.library or component.version is None:
            return False
        version = _numbers(component.version)
        return not version or (_numbers(self.introduced or "0") <= version < _numbers(self.fixed))


def _numbers(version: str) -> tuple[int, ...]:
    """4.1.53.Final → (4, 1, 53); 31.1-android → (31, 1); 3.11.14-slim → (3, 11, 14). Trailing zeros do not count."""
    begin = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in begin[0].split(".")] if begin else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def known(data: Path = DATA) -> list[Advisory]:
    """Raises Undone if the file is malformed."""
    try:
        entries = yaml.safe_load(data.read_text())["advisories"]
        return [Advisory(**({"introduced": None} | entry)) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise Undone(f"{data.name} cannot be read: {error!r}") from None


def as_of(data: Path = DATA) -> str:
    """The day on which they were last collected."""
    return str(yaml.safe_load(data.read_text())["asked"])


def asked(component: Component, database: str = OSV) -> list[set[str]]:
    """All that OSV now knows about it, each by its names (CVE-…, GHSA-…). Raises Undone if OSV cannot be asked."""
    try:
        answer = httpx.post(database, json={"package": {"purl": component.purl}}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        found = answer.json().get("vulns", [])
        return [{one["id"], *one.get("aliases", [])} for one in found if not one.get("withdrawn")]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        raise Undone(f"the advisory database at {database} could not be queried") from None
