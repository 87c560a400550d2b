"""TorchServe's jar: every change in it is found, and reported with its library."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.supply import jar
from pipeline.supply.jar import Library
from pipeline.supply.outcome import Undone

FILES = {
    "META-INF/one.properties": b"one.version=1.0\n",
    "org/one/A.class": b"\xca\xfe\xba\xbe one",
    "org/one/inner/B.class": b"\xca\xfe\xba\xbe inner",
    "org/two/C.class": b"\xca\xfe\xba\xbe two",
}


def library(name: str, version: str | None, *inside: str, told_by: tuple[str, str] | None = None) -> Library:
    return Library(name, version, inside, told_by, None if told_by else "a build", "")


KNOWN = [
    library("org:one", "1.0", "org/one/", "META-INF/", told_by=("META-INF/one.properties", "one.version=1.0")),
    library("org:inner", None, "org/one/inner/"),
    library("org:two", "2.0", "org/two/"),
]


def written(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[dict[str, bytes | None]], list[str]]:
    """The findings for a jar in which these files are changed; None: missing."""
    known = []
    with zipfile.ZipFile(written(tmp_path / "known.jar", FILES)) as opened:
        fingerprints, strange = jar._fingerprints(opened, KNOWN)
    assert not strange
    for one, sha256 in zip(KNOWN, fingerprints, strict=True):
        known.append(Library(one.name, one.version, one.inside, one.told_by, one.source, sha256))

    def said(changes: dict[str, bytes | None]) -> list[str]:
        files = {name: content for name, content in (FILES | changes).items() if content is not None}
        return list(jar.differences(written(tmp_path / "changed.jar", files), known))

    return said


def test_the_jar_that_is_known_has_no_difference(changed: Callable[[dict[str, bytes | None]], list[str]]) -> None:
    assert changed({}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"org/one/A.class": b"\xca\xfe\xba\xbe onE"},
            "org:one 1.0: its files in org/one have changed",
        ),
        ({"org/two/D.class": b"more"}, "org:two 2.0: its files in org/two have changed"),
        ({"org/two/C.class": None}, "org:two 2.0: its files in org/two have changed"),
        ({"org/one/inner/B.class": b""}, "org:inner : its files in org/one/inner have changed"),
        ({"evil/E.class": b"evil"}, "evil/E.class: belongs to no library in jar.json"),
        (
            {"META-INF/one.properties": b"one.version=1.1\n"},
            "org:one: META-INF/one.properties does not contain one.version=1.0",
        ),
        ({"META-INF/one.properties": None}, "org:one: META-INF/one.properties does not contain one.version=1.0"),
    ],
)
def test_a_change_is_told_with_its_library(
    changed: Callable[[dict[str, bytes | None]], list[str]], changes: dict[str, bytes | None], said: str
) -> None:
    assert said in changed(changes)


def test_a_file_that_comes_twice_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "twice.jar", FILES)
    with zipfile.ZipFile(path, "a") as more, pytest.warns(UserWarning, match="Duplicate name"):
        more.writestr("org/two/C.class", b"the one that Java takes")
    assert "org/two/C.class: appears twice in the jar" in list(jar.differences(path, KNOWN))


def test_what_is_no_jar_is_not_taken_for_a_sound_one(tmp_path: Path) -> None:
    (tmp_path / "no.jar").write_bytes(b"PK")
    with pytest.raises(Undone, match=r"no\.jar cannot be read"):
        list(jar.differences(tmp_path / "no.jar", KNOWN))


@pytest.mark.parametrize("text", ["", "[]", '{"libraries": [{"name": "a"}]}', '{"libraries": 1}'])
def test_a_list_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "jar.json").write_text(text)
    with pytest.raises(Undone, match=r"jar\.json cannot be read"):
        jar.libraries(tmp_path / "jar.json")


# --- The jar that is installed ----------------------------------------------------------------------------------------


def test_every_file_of_the_jar_belongs_to_a_library_and_is_as_it_was() -> None:
    assert list(jar.differences(jar.frontend(), jar.libraries())) == []


def test_each_version_has_a_source() -> None:
    for each in jar.libraries():
        assert (each.told_by is None) == (each.source is not None), each.name
        assert each.version is None or each.told_by is None or each.version in each.told_by[1], each.name


def test_the_libraries_that_matter_are_there_in_their_versions() -> None:
    found = {(each.name, each.version) for each in jar.libraries()}
    assert {
        ("io.netty:netty-codec-http", "4.1.53.Final"),
        ("io.netty:netty-codec-http", "4.1.79.Final"),  # inside gRPC
        ("io.grpc:grpc-netty-shaded", "1.50.0"),
        ("org.apache.logging.log4j:log4j-core", "2.17.1"),
        ("com.google.code.gson:gson", "2.10.1"),
        ("org.yaml:snakeyaml", "2.1"),
    } <= found
