"""`make audit`, with the real tools: each part finds what was planted for it, and never mistakes silence for an
answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands import audit
from pipeline.supply.outcome import Outcome, Undone

pytestmark = pytest.mark.slow

OPEN_FIREWALL = """
resource "google_compute_firewall" "all" {
  name          = "all"
  network       = "all"
  source_ranges = ["0.0.0.0/0"]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
"""

PRIVILEGED_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: privileged
spec:
  containers:
    - name: all
      image: busybox:1
      securityContext:
        privileged: true
"""

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: fine
"""

TEMPLATE = "filters:\n{% if origins %}\n  - {name: cors}\n{% endif %}\n"

# Assembled here, so that no part finds them in this file.
DIGEST = "0123456789abcdef" * 4
ACCESS_KEY = "AKIA" + "QWERTYUIOPASDFGH"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small checkout without findings."""
    made = tmp_path / "checkout"
    for folder in (*audit.CODE, "requirements", "terraform"):
        (made / folder).mkdir(parents=True)
    (made / "pipeline" / "fine.py").write_text("print('nothing')\n")
    (made / "terraform" / "main.tf").write_text('resource "google_compute_network" "all" {\n  name = "all"\n}\n')
    subprocess.run(["git", "init", "--quiet", made], check=True, timeout=60)
    return made


# --- Dependencies -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pinned(tree: Path) -> Path:
    (tree / "requirements" / "constraints.txt").write_text("# all\npillow==9.0.0\nnumpy==2.4.6\n")
    return tree


def advisory(package: str) -> dict[str, Any]:
    return {
        "id": "PYSEC-0000-1",
        "modified": "2026-01-01T00:00:00Z",
        "published": "2026-01-01T00:00:00Z",
        "details": "for a test",
        "affected": [
            {
                "package": {"name": package, "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.0.1"}]}],
                "versions": ["9.0.0"],
            }
        ],
    }


def test_a_known_vulnerability_is_told_with_its_fix(pinned: Path, website: Any) -> None:
    database = website.put("/v1/query", json.dumps({"vulns": [advisory("pillow")]}).encode())
    outcome = audit.dependencies(pinned, database)
    assert not outcome.fine
    assert "pillow 9.0.0: PYSEC-0000-1, fixed in 9.0.1" in outcome.findings


def test_where_none_is_known_each_package_was_asked_for(pinned: Path, website: Any) -> None:
    database = website.put("/v1/query", b"{}")
    assert audit.dependencies(pinned, database) == Outcome(True, "nothing found in 2 packages")
    assert website.asked == ["/v1/query"] * 2


def test_a_database_that_does_not_answer_is_told_in_one_line(
    pinned: Path, user_environment: None, free_port: int
) -> None:
    database = f"http://127.0.0.1:{free_port}/v1/query"
    outcome = audit.attempt(lambda checkout: audit.dependencies(checkout, database), pinned)
    assert outcome == Outcome(False, f"not done: the advisory database at {database} could not be reached")


def test_a_package_that_is_left_out_is_not_taken_for_a_safe_one(tree: Path, website: Any) -> None:
    (tree / "requirements" / "constraints.txt").write_text("")
    outcome = audit.attempt(lambda checkout: audit.dependencies(checkout, website.put("/v1/query", b"{}")), tree)
    assert outcome == Outcome(False, "not done: pip-audit left out 0 of 0 packages")


# --- Code and secrets -------------------------------------------------------------------------------------------------


def test_risky_code_is_told_with_its_line(tree: Path) -> None:
    assert audit.code(tree).fine
    (tree / "pipeline" / "risky.py").write_text("import pickle\n\npickle.loads(b'')\n")
    outcome = audit.code(tree)
    assert not outcome.fine
    assert any(finding.startswith("pipeline/risky.py:3: B301 ") for finding in outcome.findings)


def test_code_that_cannot_be_read_is_not_taken_for_safe(tree: Path) -> None:
    (tree / "pipeline" / "broken.py").write_text("def\n")
    assert audit.attempt(audit.code, tree).said.startswith("not done: bandit could not read ")


@pytest.mark.parametrize("is_added", [True, False])
def test_a_secret_is_told_with_its_line(tree: Path, is_added: bool) -> None:
    assert audit.secrets(tree).fine
    begin = "-----BEGIN EC " + "PRIVATE KEY-----"
    (tree / "key.pem").write_text(f"a key\n{begin}\n")
    if is_added:
        subprocess.run(["git", "add", "key.pem"], cwd=tree, check=True, timeout=60)
    assert audit.secrets(tree).findings == ("key.pem:2: Private Key",)


def test_a_line_is_told_wherever_it_stands_and_passes_only_where_a_comment_lets_it(tree: Path) -> None:
    line, comment = f'key = "{ACCESS_KEY}"', "# pragma: allowlist " + "nextline secret"
    (tree / "one.py").write_text(f"{line}\n")
    (tree / "two.py").write_text(f"{comment}\n{line}\n{line}\n")
    (tree / "above.py").write_text(f"{comment}\n{line}  # see the pragma above\nother = 1\n")
    assert {told.partition(": ")[0] for told in audit.secrets(tree).findings} == {"one.py:1", "two.py:3"}


def test_what_git_ignores_and_digests_are_no_secrets(tree: Path) -> None:
    (tree / ".gitignore").write_text("key.pem\n")
    (tree / "key.pem").write_text("-----BEGIN EC " + "PRIVATE KEY-----\n")
    (tree / "fine.py").write_text(f'SHA256 = "{DIGEST}"\n')
    assert audit.secrets(tree).fine


@pytest.mark.parametrize(
    "line",
    [
        f'sha256 = "{DIGEST}"; key = "{ACCESS_KEY}"',
        f'key = "{ACCESS_KEY}"  # sha256 = "{DIGEST}"',
        f'sha256_key = "{DIGEST}"',
    ],
)
def test_a_digest_hides_nothing_else(tree: Path, line: str) -> None:
    (tree / "hidden.py").write_text(f"{line}\n")
    assert any(finding.startswith("hidden.py:1: ") for finding in audit.secrets(tree).findings)


@pytest.mark.parametrize(
    "name",
    ["poetry.lock", "package-lock.json", "swagger.json", "page.css", "picture.svg", "picture.png", "swagger/a.py"],
)
def test_no_name_keeps_a_text_from_being_read(tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(f'"{ACCESS_KEY}"\n')
    assert f"{name}:1: AWS Access Key" in audit.secrets(tree).findings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("settings.ini", f"# {ACCESS_KEY}\n[all]\na = 1\n"),
        ("binary.yaml", f"# {ACCESS_KEY}\ndata:\n  a: !!binary aGVsbG8=\n"),
        ("call.py", f'connect("{ACCESS_KEY}")\n'),
    ],
)
def test_comments_and_calls_are_read_too(tree: Path, name: str, text: str) -> None:
    (tree / name).write_text(text)
    assert f"{name}:1: AWS Access Key" in audit.secrets(tree).findings


def test_values_without_quotes_are_found_in_yaml(tree: Path) -> None:
    (tree / "values.yaml").write_text(f"checksum: {DIGEST}\n")
    assert audit.secrets(tree).findings == ("values.yaml:1: Hex High Entropy String",)


@pytest.mark.parametrize("content", [b"key = '\xe9'\n", "key = 1\n".encode("utf-16"), b"\x1f\x8b\x08\x00\x00\xff"])
def test_what_cannot_be_read_as_text_is_told(tree: Path, content: bytes) -> None:
    (tree / "key.png").write_bytes(content)
    said = "not done: key.png is neither UTF-8 text nor a PNG or JPEG picture"
    assert audit.attempt(audit.secrets, tree) == Outcome(False, said)


def test_pictures_are_not_counted_as_read(tree: Path, checkout: Path) -> None:
    before = audit.secrets(tree)
    shutil.copy(checkout / "docs" / "photographs" / "rocket.jpg", tree)
    shutil.copy(next((checkout / "benchmarks" / "results").rglob("*.png")), tree)
    assert audit.secrets(tree) == Outcome(True, f"{before.said} (2 pictures are not read)")


def test_without_git_the_secrets_are_not_done(tree: Path) -> None:
    shutil.rmtree(tree / ".git")
    assert audit.attempt(audit.secrets, tree) == Outcome(False, "not done: git lists no files here")


# --- Manifests and Terraform ------------------------------------------------------------------------------------------


@pytest.fixture
def trivy() -> None:
    if not Path(sys.executable).with_name("trivy").exists():
        pytest.skip("trivy is not installed: its package has a wheel for Linux on x86-64 alone")


def test_an_open_firewall_is_told(tree: Path, trivy: None) -> None:
    assert audit.terraform(tree).fine
    (tree / "terraform" / "firewall.tf").write_text(OPEN_FIREWALL)
    outcome = audit.terraform(tree)
    assert not outcome.fine
    assert any(finding.startswith("terraform/firewall.tf: ") for finding in outcome.findings)


def test_a_privileged_pod_is_told(tree: Path, trivy: None) -> None:
    (tree / "kserve" / "pod.yaml").write_text(PRIVILEGED_POD)
    outcome = audit.manifests(tree)
    assert not outcome.fine
    assert any(finding.startswith("kserve/pod.yaml: ") for finding in outcome.findings)


def test_a_folder_without_manifests_is_not_taken_for_a_safe_one(tree: Path, trivy: None) -> None:
    assert audit.attempt(audit.manifests, tree) == Outcome(False, "not done: trivy understood nothing in kserve/")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sub/firewall.tf", f'{OPEN_FIREWALL}resource "x" {{\n'),
        ("sub/firewall.tf.json", '{"resource": {'),
        ("chart/templates/pod.yaml", PRIVILEGED_POD + "{{ .Values.a"),
    ],
)
def test_terraform_that_cannot_be_parsed_is_not_taken_for_safe(tree: Path, trivy: None, name: str, text: str) -> None:
    (tree / "terraform" / name).parent.mkdir(parents=True)
    (tree / "terraform" / "chart").mkdir(exist_ok=True)
    (tree / "terraform" / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: all\nversion: 0.1.0\n")
    (tree / "terraform" / name).write_text(text)
    outcome = audit.attempt(audit.terraform, tree)
    assert outcome == Outcome(False, f"not done: trivy could not read terraform/{name}")


def test_a_module_that_is_not_there_is_told(tree: Path, trivy: None) -> None:
    (tree / "terraform" / "module.tf").write_text('module "gone" {\n  source = "./gone"\n}\n')
    outcome = audit.attempt(audit.terraform, tree)
    assert not outcome.fine
    assert re.fullmatch(r"not done: trivy: .*Failed to load module.*module\.tf:1-3.*", outcome.said)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pod.yaml", PRIVILEGED_POD.replace("image: busybox:1", "image: [busybox:1")),
        ("pod.yaml", PRIVILEGED_POD + "kind: Pod\n"),  # twice, which YAML forbids and PyYAML accepts
        ("pod.yaml", PRIVILEGED_POD.replace("apiVersion", "apiVersoin")),
        ("pod.yaml", f"{CONFIG_MAP}---{PRIVILEGED_POD}      args: [a\n"),
        ("pod.yml", PRIVILEGED_POD.replace("image: busybox:1", "image: [busybox:1")),
        ("pod.json", '{"apiVersion": "v1", "kind": "Pod"'),
        ("Dockerfile", "FROM python:3.11\nINSTALL all\n"),
        ("envoy.yaml", TEMPLATE),
        ("runtime/sub/envoy.yaml", TEMPLATE),
        ("runtime/other.yaml", TEMPLATE),
    ],
)
def test_a_manifest_that_cannot_be_parsed_is_not_taken_for_safe(tree: Path, trivy: None, name: str, text: str) -> None:
    (tree / "kserve" / "fine.yaml").write_text(CONFIG_MAP)  # fine on its own, as below
    (tree / "kserve" / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / "kserve" / name).write_text(text)
    outcome = audit.attempt(audit.manifests, tree)
    assert outcome == Outcome(False, f"not done: trivy could not read kserve/{name}")


def test_the_servers_templates_are_left_out_and_what_is_beside_them_is_not(
    tree: Path, checkout: Path, trivy: None
) -> None:
    for name in audit.TEMPLATES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / name, tree / name)
    (tree / "kserve" / "fine.yaml").write_text(CONFIG_MAP)
    assert audit.manifests(tree).fine
    (tree / "kserve" / "runtime" / "pod.yaml").write_text(PRIVILEGED_POD)
    assert any(finding.startswith("kserve/runtime/pod.yaml: ") for finding in audit.manifests(tree).findings)


# --- All of it --------------------------------------------------------------------------------------------------------


def undone(_: Path) -> Outcome:
    raise Undone("[nobody] looked")


def run_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **parts: Callable[[Path], Outcome]
) -> tuple[object, list[str]]:
    """The exit status, and what was printed."""
    monkeypatch.setattr(audit, "PARTS", parts)
    with pytest.raises(SystemExit) as end:
        audit.main()
    return end.value.code, [line.rstrip() for line in capsys.readouterr().out.splitlines()[-len(parts) :]]


def test_with_nothing_found_the_exit_status_is_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = run_parts(monkeypatch, capsys, one=lambda _: Outcome(True, "nothing found"))
    assert not status
    assert lines == ["✓  one   nothing found"]


@pytest.mark.parametrize("bad", [undone, lambda _: Outcome(False, "1 found", ("a.py:1: [bad]",))])
def test_what_was_found_or_not_done_makes_it_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: Callable[[Path], Outcome]
) -> None:
    status, lines = run_parts(monkeypatch, capsys, one=lambda _: Outcome(True, "nothing found"), two=bad)
    assert status == 1
    assert lines[0] == "✓  one   nothing found"
    assert lines[1] in ("✗  two   1 found", "✗  two   not done: [nobody] looked")


def test_findings_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(audit, "PARTS", {"two": lambda _: Outcome(False, "1 found", ("a.py:1: [bad]",))})
    with pytest.raises(SystemExit):
        audit.main()
    assert capsys.readouterr().out.startswith("two: a.py:1: [bad]\n")


# --- This checkout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in audit.PARTS if name not in ("dependencies", "OSV")]
)  # they need the internet
def test_nothing_is_found_here(checkout: Path, name: str, request: pytest.FixtureRequest) -> None:
    if name in ("manifests", "terraform"):
        request.getfixturevalue("trivy")
    if name == "secrets" and not (checkout / ".git").exists():
        pytest.skip("git says which files are looked at, and this is no clone")
    outcome = audit.PARTS[name](checkout)
    assert outcome.fine, "\n".join([outcome.said, *outcome.findings])
