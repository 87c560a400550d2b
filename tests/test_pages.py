"""SECURITY.md and the pages in docs/ name tests and files that are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = (CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").glob("*.md")))
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
TESTS = "\n".join(file.read_text(encoding="utf-8") for file in (CHECKOUT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_a_test_that_a_page_names_is_there(name: str) -> None:
    assert re.search(rf"^def {name}\(", TESTS, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+/[\w./-]+\.(?:py|sh|ya?ml))`", PAGE))))
def test_a_file_that_a_page_names_is_there(name: str) -> None:
    assert (CHECKOUT / name).is_file()


def test_no_comment_opens_a_string_where_somebody_pastes_it() -> None:
    """zsh, the shell of macOS, takes comments in scripts alone: at its prompt an apostrophe in one begins a string."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    found = []
    for name in listed.stdout.strip("\0").split("\0"):
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^(?: {4}.*\n|\n)+|^```sh\n.*?^```$", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        comments = [comment[0] for line in lines if (comment := re.search(r"(?:^|\s)# .*", line))]
        found += [(name, comment) for comment in comments if comment.count("'") % 2]
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    [
        "tests/handler/image/test_guards.py::test_a_bomb_does_no_harm",
        "tests/serving/test_bad_input.py",
        "tests/handler/fetch/test_image_url_attacks.py",
        "tests/serving/test_attack_surface.py",
    ],
)
def test_a_count_of_cases_is_what_is_collected(tests: str) -> None:
    file = tests.split("::")[0]
    (said,) = re.findall(rf"`{file}` \| (\d+)", PAGE)
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", tests]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, text=True, timeout=100
    )
    assert sum(line.startswith(f"{file}::") for line in done.stdout.splitlines()) == int(said)
