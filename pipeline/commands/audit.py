"""`make audit`: known problems in the code, its dependencies and its manifests, and in what the image contains.

The parts here run tools that are pinned in requirements/dev.txt. The parts that look into the image are in
pipeline/supply/parts.py. A check that cannot run is reported and counts as failed: a green line always means that
the check was made.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.terminal import out, spinner
from pipeline.supply import parts
from pipeline.supply.outcome import Outcome, Undone

CODE = ("handler", "pipeline", "kserve", "scripts")  # not the code that measures or attacks its own servers
ADVISORIES = "https://api.osv.dev/v1/query"
TIMEOUT_S = 300  # for one tool

# ruff skips the same rules for the same reasons: an assert tells the type checker what it cannot see, and subprocesses
# are started from lists that we build ourselves.
BANDIT_SKIPS = "B101,B404,B603,B607"

# Digests are as random as secrets, and as long as raw keys. A line is exempt only if it holds one digest and nothing
# else, under a name that ends in "sha256". Other lines need `# pragma: allowlist secret`.
DIGEST_LINE = r"""^\s*["']?\w*(?i:sha256)["']?\s*[:=]\s*["'][0-9a-f]{64}["'],?\s*$"""

# detect-secrets skips these by default, although they can hold secrets: files with certain names, and lines that call
# something, such as `connect("password")`. For what else it skips, see `secrets`.
SECRETS_SKIPS = (
    "detect_secrets.filters.heuristic.is_indirect_reference",
    "detect_secrets.filters.heuristic.is_swagger_file",
)

NEXT_LINE = re.compile(r"allowlist[ -]nextline[ -]secret")  # detect-secrets lets the line after this one pass
LINES_IN_A_FILE = 2000  # so that each processor gets some of the files

# Not searched for secrets: they are compiled from the .proto files next to them, which are searched. Tests hold the
# two together.
DESCRIPTORS = ("conformance/open_inference_grpc.binpb", "kserve/runtime/inference.pb")
# Certificates and public keys, in base64; a test compares them with the release.
TRUST_ROOT = "kserve/components/identity/trusted_root.json"
# The first bytes of a file are more reliable than its name.
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

# What trivy must read, and what it has no checks for: it reads manifests without kustomize, and charts with Helm.
MANIFEST_ENDINGS = (".tf", ".yaml", ".yml", ".json", "Dockerfile")
NO_MANIFESTS = (
    *("kustomization.yaml", "names.yaml", "cloudbuild.yaml", "Chart.yaml", "values.yaml"),
    *("question.json", "sbom.cdx.json", "trusted_root.json", "netty.json"),
)

# Jinja templates: they are no manifests, and not even YAML until the server fills them in. Their results are tested
# where they are used: Envoy reads one (tests/door), and tests/serving/test_openapi.py calls the server with the other.
TEMPLATES = ("kserve/runtime/envoy.yaml", "kserve/runtime/server/status/openapi.yaml")


def main() -> None:
    """Runs all parts, and exits with 1 unless every one is fine."""
    table = Table("", "part", "outcome", box=None, pad_edge=False)
    outcomes = {}
    for name, part in PARTS.items():
        with spinner(f"{name} …"):
            outcomes[name] = attempt(part, CHECKOUT)
    for name, outcome in outcomes.items():
        for finding in outcome.findings:
            out.print(f"{name}: {finding}")
        mark = Text("✓", "green") if outcome.fine else Text("✗", "red")
        table.add_row(mark, name, outcome.said)
    out.print(table)
    sys.exit(0 if all(outcome.fine for outcome in outcomes.values()) else 1)


def attempt(part: Callable[[Path], Outcome], checkout: Path) -> Outcome:
    try:
        return part(checkout)
    except Undone as reason:
        return Outcome(False, f"not done: {reason}")


# --- Parts ------------------------------------------------------------------------------------------------------------


def dependencies(checkout: Path, database: str = ADVISORIES) -> Outcome:
    """pip-audit: known vulnerabilities of everything that make setup installs."""
    command = ["pip-audit", "--requirement", "requirements/constraints.txt", "--disable-pip", "--no-deps"]
    command += ["--vulnerability-service", "osv", "--osv-url", database, "--timeout", "10"]
    done = _run(checkout, *command, "--progress-spinner", "off", "--format", "json")
    if not done.stdout.startswith("{"):
        raise Undone(f"the advisory database at {database} could not be reached")
    audited: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    skipped = [package["name"] for package in audited if "skip_reason" in package]
    if skipped or not audited:
        raise Undone(f"pip-audit left out {len(skipped)} of {len(audited)} packages")
    return Outcome.of(
        f"{len(audited)} packages",
        [
            f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or '-'}"
            for package in audited
            for found in package["vulns"]
        ],
    )


def code(checkout: Path) -> Outcome:
    """bandit: risky Python."""
    done = _run(checkout, "bandit", "--quiet", "--recursive", *CODE, "--skip", BANDIT_SKIPS, "--format", "json")
    report = _json(done)
    if report["errors"]:
        raise Undone(f"bandit could not read {report['errors'][0]['filename']}")
    return Outcome.of(
        f"{report['metrics']['_totals']['loc']} lines",
        [
            f"{found['filename']}:{found['line_number']}: {found['test_id']} {found['issue_text']}"
            for found in report["results"]
        ],
    )


def secrets(checkout: Path) -> Outcome:
    """detect-secrets: keys and passwords in any text file that git tracks or would add.

    Each file is scanned twice. Under its own name, it is parsed (YAML, INI), but comments are not searched, and lock
    files, style sheets and others are skipped. As lines of a .txt, all is searched; Python only in this way.
    """
    texts, pictures = _texts_and_pictures(checkout)
    if not texts:
        raise Undone("git lists no files here")
    found = _secrets_in(checkout, [name for name in texts if not name.endswith(".py")])
    found |= _secrets_in_lines(checkout, texts)
    left_out = f" ({len(pictures)} pictures are not read)" if pictures else ""
    return Outcome.of(
        f"{len(texts)} text files{left_out}", [f"{name}:{line}: {kind}" for name, line, kind in sorted(found)]
    )


def manifests(checkout: Path) -> Outcome:
    """trivy: the manifests and the Dockerfile. tests/kserve/test_scanner.py scans what KServe makes of them."""
    return _trivy(checkout, "kserve")


def terraform(checkout: Path) -> Outcome:
    return _trivy(checkout, "terraform")


PARTS: dict[str, Callable[[Path], Outcome]] = {
    "dependencies": dependencies,
    "code": code,
    "secrets": secrets,
    "manifests": manifests,
    "terraform": terraform,
    "pins": parts.held,
    "jar": parts.jar,
    "known holes": parts.holes,
    "OSV": parts.asked,
    "SBOM": parts.listed,
}


# --- Tools ------------------------------------------------------------------------------------------------------------


def _run(checkout: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A tool of this virtual environment."""
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    try:
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        raise Undone(f"{tool} is not installed (trivy has a wheel only for Linux on x86-64)") from None
    except subprocess.TimeoutExpired:
        raise Undone(f"{tool} took longer than {TIMEOUT_S} s") from None


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Undone(_last_line(done)) from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _texts_and_pictures(checkout: Path) -> tuple[list[str], list[str]]:
    """The files that git tracks or would add. (Of a link, git stores only the path.)"""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    texts, pictures = [], []
    for name in sorted({name for name in listed.stdout.split("\0") if name}):
        file = checkout / name
        if file.is_symlink() or not file.is_file() or name in (*DESCRIPTORS, TRUST_ROOT):
            continue
        content = file.read_bytes()
        try:
            content.decode()
        except UnicodeDecodeError:  # detect-secrets would skip it silently
            if not content.startswith(PICTURES):
                raise Undone(f"{name} is neither UTF-8 text nor a PNG or JPEG picture") from None
            pictures.append(name)
        else:
            texts.append(name)
    return texts, pictures


def _secrets_in_lines(checkout: Path, texts: list[str]) -> set[tuple[str, int, str]]:
    """A line that several files share is scanned once, with the line before it if that one could let it pass.

    If different lines hold the same secret, not all of them may be reported.
    """
    places: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for name in texts:
        before = ""
        for number, line in enumerate((checkout / name).read_text(encoding="utf-8").split("\n"), start=1):
            places[f"{before}\n{line}" if NEXT_LINE.search(before) else line].append((name, number))
            before = line
    distinct = list(places)
    read: dict[tuple[str, int], list[tuple[str, int]]] = {}
    with tempfile.TemporaryDirectory(prefix="alexnet-secrets-") as folder:
        for start in range(0, len(distinct), LINES_IN_A_FILE):
            written = ["text"]  # no INI file begins like this
            for each in distinct[start : start + LINES_IN_A_FILE]:
                written += each.split("\n")
                read[f"{start}.txt", len(written)] = places[each]
                written += [""] if NEXT_LINE.search(each) else []  # which must not cover the line that follows here
            Path(folder, f"{start}.txt").write_text("\n".join(written), encoding="utf-8")
        found = _secrets_in(Path(folder), sorted(os.listdir(folder)))
    return {(*place, kind) for file, line, kind in found for place in read.get((file, line), ())}


def _secrets_in(folder: Path, files: list[str]) -> set[tuple[str, int, str]]:
    """The file, line and kind of each secret."""
    if not files:  # detect-secrets would search everything
        return set()
    command = ["detect-secrets", "scan", "--no-verify", "--exclude-lines", DIGEST_LINE]
    for skip in SECRETS_SKIPS:
        command += ["--disable-filter", skip]
    results = _json(_run(folder, *command, *files))["results"]
    return {(file, entry["line_number"], entry["type"]) for file, entries in results.items() for entry in entries}


def _trivy(checkout: Path, folder: str) -> Outcome:
    """High and critical findings of trivy's built-in checks. Accepted ones are explained in the files."""
    with tempfile.TemporaryDirectory(prefix="alexnet-trivy-") as cache:
        command = ["trivy", "config", "--debug", "--skip-check-update", "--skip-version-check", "--disable-telemetry"]
        for name in TEMPLATES:
            command += ["--skip-files", str(checkout / name)]
        done = _run(checkout, *command, "--format", "json", "--severity", "HIGH,CRITICAL", "--cache-dir", cache, folder)
    results = _json(done).get("Results", [])
    _require_that_trivy_read_all(checkout / folder, {result["Target"] for result in results}, done.stderr)
    checked = sum(result.get("MisconfSummary", {}).get("Successes", 0) for result in results)
    found = [
        f"{folder}/{result['Target']}: {failed['ID']} {failed['Title']}"
        for result in results
        for failed in result.get("Misconfigurations", [])
    ]
    if not checked and not found:
        raise Undone(f"trivy understood nothing in {folder}/")
    return Outcome.of(f"{folder}/, {checked} checks passed" if not found else f"{folder}/", found)


def _require_that_trivy_read_all(folder: Path, targets: set[str], log: str) -> None:
    """trivy skips what it cannot parse, and still exits with 0.

    Only its log (with --debug) shows which Terraform files it read. Manifests and Dockerfiles are targets themselves.
    """
    read = targets | set(re.findall(r'\[terraform parser\] Added file\t.*file_path="(.+)"$', log, re.MULTILINE))
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        others = ".terraform" in name.parts  # downloaded by `terraform init`
        template = f"{folder.name}/{name.as_posix()}" in TEMPLATES
        wanted = file.is_file() and file.name.endswith(MANIFEST_ENDINGS) and file.name not in NO_MANIFESTS
        if wanted and not others and not template and name.as_posix() not in read:
            raise Undone(f"trivy could not read {folder.name}/{name.as_posix()}")
    for line in log.splitlines():
        _, level, *said = [*line.split("\t"), ""]
        # We want the embedded checks: they are pinned with trivy.
        if level in ("ERROR", "FATAL") and "Falling back to embedded checks" not in line:
            raise Undone(f"trivy: {' '.join(said).strip()}")


if __name__ == "__main__":
    main()
