"""The newer Netty is in the image's list of parts, with its known vulnerabilities."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.commands import audit
from pipeline.supply import advisories, components, parts, pins, statements
from pipeline.supply.components import NETTY, of_netty

pytestmark = pytest.mark.slow


def test_the_page_names_the_version_and_the_vulnerabilities_in_what_is_used(checkout: Path) -> None:
    """The others are in code that nothing refers to, or stopped by the door: the page has the latter."""
    newer = of_netty(checkout / NETTY)
    made = statements.made()
    kept_away = set()
    for advisory in advisories.known():
        if any(advisory.affects(each) for each in newer):
            statement = statements.about(advisory.library, [advisory.id], made)
            assert statement, advisory
            if statement.justification != "code_not_reachable":
                kept_away.add(advisory.id)
    (paragraph,) = re.findall(
        r"^- \*\*Netty's newest vulnerabilities\.\*\* (.*?)^- ",
        (checkout / "docs" / "security.md").read_text(),
        re.M | re.S,
    )
    assert kept_away == set(re.findall(r"CVE-\d+-\d+", paragraph))
    assert {f"{each.version}" for each in newer} == {paragraph.split()[0] + ".Final"}


def test_the_list_says_whose_classes_come_first(checkout: Path) -> None:
    listed = json.loads((checkout / parts.LIST).read_text())["components"]
    behind = {
        each["name"]: told["value"]
        for each in listed
        for told in each["properties"]
        if told["name"] == "alexnet:behind"
    }
    version = of_netty(checkout / NETTY)[0].version
    assert behind["netty-codec-http"] == f"Java finds the classes of netty-codec-http {version} first"
    assert behind["netty-codec"] == f"Java finds the classes of netty-codec-base {version} first"
    assert behind["netty-transport-native-epoll"].endswith(f" netty-transport-classes-epoll {version} first")
    assert "netty-codec-dns" not in behind  # nothing refers to it, and nothing replaces it


@pytest.mark.parametrize(
    ("pattern", "by", "told"),
    [
        (r"4\.2\.13\.Final", "4.2.12.Final", "CVE-2026-42577"),
        (r"4\.2\.13\.Final", "LATEST", "LATEST: no version"),
        (r'"sha256": "[0-9a-f]{64}"', '"sha256": ""', "without a SHA-256"),
        (r'"sha256": "[0-9a-f]{64}"', f'"sha256": "{"0" * 64}"', "differs"),
        (r'"version"', '"versions"', "netty.json cannot be read"),
    ],
)
def test_what_is_changed_in_netty_json_is_told(tree: Path, pattern: str, by: str, told: str) -> None:
    text, number = re.subn(pattern, by, (tree / NETTY).read_text(), count=1)
    assert number == 1
    (tree / NETTY).write_text(text)
    found = []
    for part in (parts.held, parts.holes, parts.listed):
        outcome = audit.attempt(part, tree)
        found += [*outcome.findings, outcome.said]
    assert [line for line in found if told in line]


def test_it_is_held_in_place(checkout: Path) -> None:
    assert [line for line in pins.problems(checkout) if str(components.NETTY) in line] == []
