"""Downloads are pinned: packages by version and SHA-256, the base image and actions by digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from pipeline.supply.components import CONSTRAINTS, DOCKERFILE, NETTY, of_netty, pinned
from pipeline.supply.outcome import Undone

LOCKED = Path("requirements", "locked")
FILES = (
    "all.txt",
    "checkov.txt",
    "cuda.txt",
    "image.txt",
    "keyless.txt",
    "kserve-storage.txt",
    "torch.txt",
    "torch-cpu.txt",
    "uv.txt",
)
FROM_CONSTRAINTS = ("all.txt", "image.txt", "keyless.txt", "kserve-storage.txt", "torch.txt", "torch-cpu.txt")
BASE = Path("kserve", "runtime", "base-image.txt")
WORKFLOWS = Path(".github", "workflows")

# A version, perhaps a marker, and hashes: no address, no option, no range.
ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?: ; [^\\]+?)?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})*)"
)
DIGEST = re.compile(r"[a-z0-9./:-]+:[\w.-]+@sha256:[0-9a-f]{64}")
# PyTorch's own index states the SHA-256 of its files, and pip compares them; its builds are not in torch.txt.
UNHASHED = 'pip install --no-deps --index-url "${TORCH_INDEX}"'


def problems(checkout: Path) -> Iterator[str]:
    """One line for each problem. Raises Undone if a file cannot be read."""
    try:
        yield from _locked(checkout)
        yield from _image(checkout)
        yield from _netty(checkout)
        yield from _actions(checkout)
    except (OSError, UnicodeDecodeError) as error:
        raise Undone(f"the pins cannot be read: {error}") from None


def entries(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """The requirements in a locked file, each on one line, and its parts; None if it is something else."""
    for line in re.sub(r" \\\n\s*", " ", text).splitlines():
        if line and not line.startswith("#"):
            yield line, ENTRY.fullmatch(line)


def _locked(checkout: Path) -> Iterator[str]:
    pins = pinned(checkout / CONSTRAINTS)
    seen = set()
    for name in FILES:
        if not (checkout / LOCKED / name).is_file():
            yield f"{LOCKED / name} is missing: run make lock"
            continue
        for line, entry in entries((checkout / LOCKED / name).read_text()):
            if not entry:
                yield f"{LOCKED / name}: {line[:80]}: not a version with SHA-256 hashes"
                continue
            package, version = canonicalize_name(entry["name"]), entry["version"]
            if not entry["hashes"]:
                yield f"{LOCKED / name}: {package}=={version}: has no SHA-256"
            if name in FROM_CONSTRAINTS:
                seen.add(package)
                pin = pins.get(package, version)
                if pin != version.partition("+")[0]:
                    yield f"{LOCKED / name}: {package}=={version}, but =={pin} in {CONSTRAINTS}: run make lock"
    for missing in sorted(pins.keys() - seen):
        yield f"{CONSTRAINTS}: {missing} is in no file of {LOCKED}: run make lock"


def _image(checkout: Path) -> Iterator[str]:
    instructions = (checkout / DOCKERFILE).read_text().replace("\\\n", " ")
    for found in re.findall(r"^FROM (\S+)", instructions, re.MULTILINE):
        if found != "${BASE}":
            yield f"{DOCKERFILE}: FROM {found}: is not the base with a digest"
    for found in re.findall(r"pip install[^&|;]*", instructions):
        if "--require-hashes" not in found and not found.startswith(UNHASHED):
            yield f"{DOCKERFILE}: {' '.join(found.split())[:80]}: lacks --require-hashes"
    if (checkout / BASE).exists():
        base = (checkout / BASE).read_text().strip()
        tag = re.search(r"^ARG BASE=(\S+)", instructions, re.MULTILINE)
        if not DIGEST.fullmatch(base):
            yield f"{BASE}: {base[:80]}: has no digest"
        elif not tag or base.partition("@")[0] != tag[1]:
            yield f"{BASE}: {base.partition('@')[0]} is not the base of {DOCKERFILE}: delete it, and run make image"


def _netty(checkout: Path) -> Iterator[str]:
    for each in of_netty(checkout / NETTY):
        if not re.fullmatch("[0-9a-f]{64}", each.sha256 or ""):
            yield f"{NETTY}: {each.name}: without a SHA-256"
        if not re.fullmatch(r"[\d.]+Final", each.version or ""):
            yield f"{NETTY}: {each.version}: no version"


def _actions(checkout: Path) -> Iterator[str]:
    for file in sorted((checkout / WORKFLOWS).glob("*.y*ml")):
        for found in re.findall(r"^\s*(?:- )?uses: (\S+)", file.read_text(), re.MULTILINE):
            if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", found):
                yield f"{WORKFLOWS / file.name}: {found}: not pinned to a commit"
