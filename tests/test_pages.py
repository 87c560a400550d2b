"""The pages name tests, files, options and places that are there, and their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from pipeline.deployment.kserve_versions import SUPPORTED

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


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+/[a-z_./-]*/)`", PAGE))))
def test_a_folder_that_a_page_names_is_there(name: str) -> None:
    if subprocess.run(["git", "check-ignore", "--quiet", name], cwd=CHECKOUT, check=False).returncode != 0:
        assert (CHECKOUT / name).is_dir()


def markdown() -> list[str]:
    """All files of Markdown that git has, by their paths in the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.strip("\0").split("\0") if (CHECKOUT / name).is_file()]


@cache
def anchors(file: Path) -> set[str]:
    """What GitHub makes of its headings, and anchors in HTML."""
    text = re.sub(r"^```.*?^```$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return {*found, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)}


def links(file: Path) -> Iterator[str]:
    """Those into the checkout, in the order of the page; what is code is none."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


# benchmarks/processor.md is a template; the pages that are made of it are here too.
@pytest.mark.parametrize("name", sorted({*markdown()} - {"benchmarks/processor.md"}))
def test_links_lead_somewhere(name: str) -> None:
    page = CHECKOUT / name
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@cache
def options(command: str) -> set[str]:
    app = typer.Typer()
    app.command()(getattr(import_module(f"pipeline.commands.{command}"), command))
    made = typer.main.get_command(app)
    return {"--help", *(option for parameter in made.params for option in parameter.opts + parameter.secondary_opts)}


def test_an_option_that_a_page_gives_a_script_is_one() -> None:
    unknown = []
    for name in markdown():
        text = (CHECKOUT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        code = re.findall(r"^(?: {4}|\|.*?`).*|^```sh\n.*?^```$|`[^`]+`", text, re.MULTILINE | re.DOTALL)
        for line in "\n".join(code).splitlines():
            for command, arguments in re.findall(r"scripts/([a-z]+)\.sh\b([^`|;&)]*)", line):
                assert (CHECKOUT / "scripts" / f"{command}.sh").is_file(), (name, line)
                if (CHECKOUT / "pipeline" / "commands" / f"{command}.py").is_file():
                    given = re.findall(r"(?<!\S)--[a-z][\w-]*", arguments)
                    unknown += [(name, command, option) for option in given if option not in options(command)]
    assert unknown == []


def test_a_target_of_make_that_a_page_names_is_one() -> None:
    targets = set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (name, target)
        for name in markdown()
        for target in re.findall(r"(?:`|^    |^)make\s+([a-z][a-z-]*)\b(?=[^\n]*`|\n)", (CHECKOUT / name).read_text())
    }
    assert {(name, target) for name, target in named if target not in targets} == set()


def test_what_is_said_of_a_cluster_is_so() -> None:
    publishing = " ".join((CHECKOUT / "docs" / "publishing.md").read_text().split())
    overlays = re.findall(r"`([\w-]+)`", publishing.partition("`--overlay` one of")[2].partition(":")[0])
    assert sorted(overlays) == sorted(
        found.parent.name for found in CHECKOUT.glob("kserve/overlays/*/kustomization.yaml")
    )
    assert f"KServe {SUPPORTED}" in publishing
    (drain,) = re.findall(r'"DRAIN_AT_MOST_S", (\d+)\)', (CHECKOUT / "kserve/runtime/server/drain.py").read_text())
    assert f"at most `DRAIN_AT_MOST_S` ({drain})" in (CHECKOUT / "docs" / "settings.md").read_text()
    assert f"for at most {drain} s" in (CHECKOUT / "docs" / "design.md").read_text()


def test_no_comment_opens_a_string_where_somebody_pastes_it() -> None:
    """zsh, macOS's shell, allows comments only in scripts: at its prompt, an apostrophe in one begins a string."""
    found = []
    for name in markdown():
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
