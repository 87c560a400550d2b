"""SECURITY.md and the pages in docs/ name tests and files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = (CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").glob("*.md")))
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
TESTS = "\n".join(file.read_text(encoding="utf-8") for file in (CHECKOUT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_a_test_that_a_page_names_is_there(name: str) -> None:
    assert re.search(rf"^def {name}\(", TESTS, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:tests|scripts)/[\w./]+\.(?:py|sh))", PAGE))))
def test_a_file_that_a_page_names_is_there(name: str) -> None:
    assert (CHECKOUT / name).is_file()
